/** The files of an archive, the first of them by name, and how many more there are. */
export interface ArchiveList {
  entries: { name: string; size: number }[];
  left: number;
}

const shown = 200;

/** What a zip archive holds, from its directory alone; null when it is not there or not an archive. Sizes in bytes. */
export async function listArchive(path: string): Promise<ArchiveList | null> {
  const { default: yauzl } = await import('yauzl');
  return new Promise((resolve) => {
    yauzl.open(path, { lazyEntries: true, autoClose: true }, (problem, zip) => {
      if (problem) return resolve(null);
      const entries: ArchiveList['entries'] = [];
      let left = 0;
      zip.on('error', () => resolve(null));
      zip.on('end', () => resolve({ entries: entries.sort((a, b) => (a.name < b.name ? -1 : 1)), left }));
      zip.on('entry', (entry) => {
        if (!entry.fileName.endsWith('/')) {
          if (entries.length < shown) entries.push({ name: entry.fileName, size: entry.uncompressedSize });
          else left += 1;
        }
        zip.readEntry();
      });
      zip.readEntry();
    });
  });
}
