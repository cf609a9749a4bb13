// Another process on the same store, for the store contract: node main.mjs <program> <store url> <key> [count]
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { openStore } from '../../src/store/index.ts';

const [program, url, key, count] = process.argv.slice(2) as [string, string, string, string | undefined];
const { ACCESS_KEY: accessKey, SECRET_KEY: secretKey } = process.env;
const store = await openStore(url, accessKey && secretKey ? { accessKey, secretKey } : null);

if (program === 'if-absent') {
  const writers = Array.from({ length: Number(count) }, (_, index) =>
    store.put(key, `${process.pid}.${index}`, { ifAbsent: true }),
  );
  console.log((await Promise.all(writers)).join('\n'));
} else if (program === 'count') {
  for (let done = 0; done < Number(count); ) {
    const opened = await store.open(key);
    if (!opened) throw new Error(`${key} is gone`);
    const next = Number(await text(opened.body)) + 1;
    if ((await store.put(key, String(next), { ifMatch: opened.entry.etag })) === 'stored') done++;
  }
} else if (program === 'put-forever') {
  const endless = async function* () {
    for (let chunk = 0; ; chunk++) {
      yield Buffer.alloc(1 << 20, chunk);
      // Past what one request of a multipart upload holds, so that a part of it really is in the store.
      if (chunk === 20) console.log('half of it is written');
      if (chunk > 20) await new Promise(() => setInterval(() => undefined, 1000));
    }
  };
  await store.put(key, Readable.from(endless()));
} else {
  throw new Error(`unknown program ${program}`);
}
