/** Keeps a value in memory; the oldest of more than `most` goes. Returns the value. */
export function keepNewest<K, V>(map: Map<K, V>, most: number, key: K, value: V): V {
  if (map.size >= most) map.delete(map.keys().next().value!);
  map.set(key, value);
  return value;
}
