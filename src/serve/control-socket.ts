import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';

/** sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero (unix(7)). */
const maxSocketPath = 100;

/** The control socket of a gateway's folder: in it, or, where that path is too long for a socket, in a folder of /tmp. */
export function controlSocket(folder: string): string {
  const inside = join(resolve(folder), 'control.sock');
  if (Buffer.byteLength(inside) <= maxSocketPath) return inside;
  const name = createHash('sha256').update(resolve(folder)).digest('hex').slice(0, 24);
  return join('/tmp', `cdl-gateway-${userInfo().uid}`, `${name}.sock`);
}

/** Makes the folder of the control socket, for its owner alone. Throws when somebody else made it first. */
export async function prepareSocketFolder(folder: string): Promise<void> {
  const parent = dirname(controlSocket(folder));
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const found = await lstat(parent);
  const { uid } = userInfo();
  if (!found.isDirectory() || (uid >= 0 && found.uid !== uid)) {
    throw new Error(`${parent} belongs to somebody else`);
  }
  await chmod(parent, 0o700);
}
