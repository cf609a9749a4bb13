/** Bytes that no store can shrink, the same in every run. */
export function noise(size: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let state = seed * 2654435761 + 1;
  for (let at = 0; at + 4 <= size; at += 4) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    bytes.writeInt32LE(state | 0, at);
  }
  return bytes;
}
