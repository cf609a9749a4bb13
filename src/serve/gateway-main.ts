import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startGateway } from './gateway.ts';

// The process of a gateway. It outlives the process that starts it, tells it through the IPC channel when it answers, and
// stops, with all its servers, on SIGTERM or POST /stop.

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      folder: { type: 'string' },
      host: { type: 'string', default: '127.0.0.1' },
      port: { type: 'string', default: '0' },
      'start-timeout': { type: 'string', default: '60000' },
      hold: { type: 'string', default: '10000' },
    },
  });
  if (!values.folder) throw new Error('a gateway needs --folder');
  const gateway = await startGateway({
    folder: values.folder,
    host: values.host,
    port: Number(values.port),
    // The server's bundle lies beside this one.
    program: fileURLToPath(import.meta.url).replace(/gateway-main(\.m?js)$/, 'main$1'),
    startTimeout: Number(values['start-timeout']),
    hold: Number(values.hold),
    log: (line) => console.log(`${new Date().toISOString()} ${line}`),
    onStopped: () => process.exit(0),
  });
  console.log(`${new Date().toISOString()} gateway ${process.pid} listens on ${values.host}:${gateway.port}`);
  process.on('SIGTERM', () => void gateway.stop());
  process.on('SIGINT', () => void gateway.stop());
  // Whoever started it may be gone already; then there is nobody to tell, and that is no error.
  if (process.connected) process.send?.({ ready: true }, () => process.connected && process.disconnect());
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
