// A forge that has one project without changes, on a thread of its own, so that what is measured is the bot.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parentPort } from 'node:worker_threads';

/** How often the comments of each change were asked for: once for each comment that was handled. */
const looks = new Map<number, number>();

const server = createServer((incoming, outgoing) => {
  incoming.resume();
  const path = incoming.url ?? '';
  const change = Number(/\/merge_requests\/(\d+)\/discussions/.exec(path)?.[1]);
  if (change) looks.set(change, (looks.get(change) ?? 0) + 1);
  const json = (body: unknown) =>
    outgoing.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (path.startsWith('/api/v4/user')) return json({ id: 1, username: 'cdl-bot', name: 'CDL' });
  if (/\/(discussions|notes|merge_requests|pipelines|hooks)(\?|$)/.test(path)) return json([]);
  if (/^\/api\/v4\/projects\/[^/]+$/.test(path)) return json({ id: 1, default_branch: 'main' });
  outgoing.writeHead(404, { 'content-type': 'application/json' }).end('{"message":"404 Not found"}');
});
parentPort?.on('message', () => parentPort?.postMessage(looks));
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  parentPort?.postMessage(`http://127.0.0.1:${port}`);
});
