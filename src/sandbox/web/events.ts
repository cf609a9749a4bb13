import type { IncomingMessage, ServerResponse } from 'node:http';
import type { World, WorldEvent } from '../state.ts';

/** `kind id` of what happened: the page needs to know whether it is about its own log. */
function line(event: WorldEvent): string {
  return event.kind === 'job' || event.kind === 'trace' ? `${event.kind} ${event.job.id}` : `${event.kind} 0`;
}

/**
 * `/-/events?project=ID`: says that something happened, as server-sent events (HTML standard, 9.2). The page fetches what
 * changed by itself, so nothing but kinds and numbers goes out here.
 */
export function streamEvents(
  world: World,
  projectId: number | null,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  response.write('retry: 2000\n\n');
  const tell = (event: WorldEvent) => {
    if (projectId !== null && event.project.id !== projectId) return;
    // A reader that does not keep up misses events instead of filling the memory; it re-reads everything anyway.
    if (response.writableLength > 64 * 1024) return;
    response.write(`data: ${line(event)}\n\n`);
  };
  world.events.on('event', tell);
  const stop = () => world.events.off('event', tell);
  response.once('close', stop);
  request.once('error', stop);
}
