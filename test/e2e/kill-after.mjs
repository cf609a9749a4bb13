// Preloaded into a cdl process (node --import): ends it with SIGKILL right before or after its n-th change below a folder.
import fs, { writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { resolve, sep } from 'node:path';

const { KILL_BELOW: below, KILL_AT: at, KILL_WHEN: when, KILL_COUNT: counter } = process.env;
const changes = ['rename', 'link', 'unlink', 'rm', 'rmdir', 'writeFile'];

if (below && process.argv[1]?.endsWith('cdl.js')) {
  let count = 0;
  const isBelow = (path) => typeof path === 'string' && resolve(path).startsWith(below + sep);
  for (const name of changes) {
    const real = fs.promises[name];
    fs.promises[name] = async (...args) => {
      if (!args.slice(0, 2).some(isBelow)) return real(...args);
      count += 1;
      const isLast = count === Number(at);
      if (isLast && when === 'before') process.kill(process.pid, 'SIGKILL');
      const result = await real(...args).catch((error) => ({ error }));
      if (isLast && when === 'after') process.kill(process.pid, 'SIGKILL');
      if (result?.error) throw result.error;
      return result;
    };
  }
  syncBuiltinESMExports();
  if (counter) process.on('exit', () => writeFileSync(counter, String(count)));
}
