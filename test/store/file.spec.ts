import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openStore } from '../../src/store/index.ts';
import { storeContract } from '../contract/store.ts';

let folder: string;

storeContract(
  'the file store',
  async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-file-store-'));
    const url = pathToFileURL(folder).href;
    return { open: () => openStore(url, null), url, env: {} };
  },
  () => rm(folder, { recursive: true, force: true }),
);
