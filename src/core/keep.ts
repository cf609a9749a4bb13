/** Keeps a value in memory, in place of an earlier one of its key; the oldest of more than `most` goes. Returns the value. */
export function keepNewest<K, V>(map: Map<K, V>, most: number, key: K, value: V): V {
  if (map.size >= most && !map.has(key)) map.delete(map.keys().next().value!);
  map.set(key, value);
  return value;
}

/** What is kept in memory for an owner, for as long as that is there; empty at first. */
export function keptFor<O extends object, K, V>(all: WeakMap<O, Map<K, V>>, owner: O): Map<K, V> {
  const kept = all.get(owner) ?? new Map<K, V>();
  all.set(owner, kept);
  return kept;
}
