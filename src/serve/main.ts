import { parseArgs } from 'node:util';
import { isDigest } from '../core/digest.ts';
import { describeError, UserError } from '../core/error.ts';
import { openScoringLog } from './scoring.ts';
import { startServer } from './server.ts';
import { openServable } from './tfjs.ts';

// The process of one model server. It says {"ready":true,…} on stdout when it answers, and stops on SIGTERM, or, with
// --attached, when its stdin ends: then whoever started it is gone, however that one died.

function readArguments() {
  try {
    return parseArgs({
      options: {
        package: { type: 'string' },
        digest: { type: 'string' },
        candidate: { type: 'string', default: '' },
        version: { type: 'string', default: '1' },
        host: { type: 'string', default: '127.0.0.1' },
        port: { type: 'string', default: '0' },
        scores: { type: 'string' },
        attached: { type: 'boolean', default: false },
        'behind-gateway': { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    throw new UserError('usage', cause instanceof Error ? cause.message : String(cause), undefined, {
      cause,
    });
  }
}

async function main(): Promise<void> {
  const values = readArguments();
  if (!values.package || !isDigest(values.digest)) {
    throw new UserError('usage', 'a model server needs --package FOLDER and --digest sha256:…');
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new UserError('usage', `--port ${values.port} is not a port`);
  }
  const servable = await openServable(values.package, { package: values.digest, version: values.version });
  const server = await startServer({
    servable,
    candidate: values.candidate,
    host: values.host,
    port,
    scores: values.scores ? openScoringLog(values.scores) : null,
    behindGateway: values['behind-gateway'],
    onError: (error) => console.error(error),
  });
  let isStopping = false;
  const stop = (): void => {
    if (isStopping) return;
    isStopping = true;
    server.close().then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  if (values.attached) process.stdin.on('end', stop).on('error', stop).resume();
  process.stdout.write(`${JSON.stringify({ ready: true, port: server.port, pid: process.pid })}\n`);
}

function fail(error: unknown): void {
  const { exit, message } = describeError(error);
  process.stderr.write(`${message}\n`, () => process.exit(exit));
}

main().catch(fail);
