// Another process on the same database, for the database contract: node main.mjs <program> <url or ""> <folder> [count]
import { openDatabase, openQueue } from '../../src/db/index.ts';

const [program, url, folder, count] = process.argv.slice(2) as [string, string, string, string | undefined];
const database = await openDatabase({ url: url || null, folder });
const forever = () => new Promise<never>(() => setInterval(() => undefined, 1000));

if (program === 'open') {
  await database.close();
} else if (program === 'insert') {
  for (let index = 0; index < Number(count); index++) {
    await database.query('insert into deliveries (id) values ($1)', [`${process.pid}.${index}`]);
    if (index === 0) console.log('begun');
  }
  await database.close();
} else if (program === 'add') {
  for (let index = 0; index < Number(count); index++) {
    await database.transaction(async (transaction) => {
      const [row] = await transaction.query<{ state: { n: number } }>('select state from counter for update');
      await transaction.query('update counter set state = $1', [{ n: (row?.state.n ?? 0) + 1 }]);
    });
  }
  await database.close();
} else if (program === 'hold') {
  await database.query('select 1');
  console.log('joined');
  await forever();
} else if (program === 'work') {
  const queue = await openQueue(
    database,
    {
      stuck: async () => {
        console.log('taken');
        await forever();
      },
    },
    { concurrency: 1 },
  );
  await queue.run();
} else {
  throw new Error(`unknown program ${program}`);
}
