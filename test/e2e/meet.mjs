// Preloaded into cdl processes (node --import): each waits before its first change below a folder until all are there.
import fs, { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join, resolve, sep } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const { MEET_BELOW: below, MEET_AT: place, MEET_COUNT: count } = process.env;

if (below && process.argv[1]?.endsWith('cdl.js')) {
  let met = false;
  for (const name of ['rename', 'link', 'unlink', 'rm', 'writeFile']) {
    const real = fs.promises[name];
    fs.promises[name] = async (...args) => {
      const isBelow = (path) => typeof path === 'string' && resolve(path).startsWith(below + sep);
      if (!met && args.slice(0, 2).some(isBelow)) {
        met = true;
        mkdirSync(place, { recursive: true });
        writeFileSync(join(place, String(process.pid)), '');
        while (readdirSync(place).length < Number(count)) await wait(2);
      }
      return real(...args);
    };
  }
  syncBuiltinESMExports();
}
