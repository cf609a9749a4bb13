import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildARN, Client, NotificationConfig, ObjectCreatedAll, QueueConfig } from 'minio';
import { AssumeRoleProvider } from 'minio/dist/esm/AssumeRoleProvider.mjs';
import type { StoreCredentials } from '../../src/store/index.ts';
import { freePort } from '../free-port.ts';

/** A real MinIO with one bucket, on a port of its own, its data in a folder that goes with it. */
export interface MinioServer {
  endpoint: string;
  bucket: string;
  /** Whoever owns the server. */
  root: StoreCredentials;
  /** Temporary credentials that may read and write below `prefix` alone (STS AssumeRole with a session policy). */
  restrictedTo(prefix: string): Promise<StoreCredentials>;
  /** Has a target, by its ARN, told of objects written below `prefix`. */
  notify(arn: string, prefix: string): Promise<void>;
  /** Ends it as a power cut would. */
  kill(): Promise<void>;
  dispose(): Promise<void>;
}

/** Where test/services/minio.sh puts the server, or the one CDL_MINIO names; null when there is none yet. */
export function findMinio(): string | null {
  const { CDL_MINIO, CDL_CACHE } = process.env;
  const path = CDL_MINIO || join(CDL_CACHE || join(homedir(), '.cache', 'cdl'), 'bin', 'minio');
  return existsSync(path) ? path : null;
}

/** Starts a server (`settings`: further variables of its environment) and waits until it answers. */
export async function startMinio(
  binary: string,
  settings: Record<string, string> = {},
): Promise<MinioServer> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-minio-'));
  const root = { accessKey: 'cdl-root', secretKey: randomBytes(16).toString('hex') };
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const server = spawn(binary, ['server', '--json', '--address', address, join(folder, 'data')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH ?? '',
      HOME: folder,
      MINIO_ROOT_USER: root.accessKey,
      MINIO_ROOT_PASSWORD: root.secretKey,
      MINIO_BROWSER: 'off',
      MINIO_UPDATE: 'off',
      ...settings,
    },
  });
  const exited = once(server, 'exit');
  const log: string[] = [];
  const ready = new Promise<void>((resolve, reject) => {
    for (const stream of [server.stdout, server.stderr]) {
      createInterface(stream).on('line', (line) => {
        log.push(line);
        if (line.includes(`http://${address}`)) resolve();
      });
    }
    server.on('exit', () => reject(new Error(`MinIO did not start:\n${log.join('\n')}`)));
  });
  await ready;
  const bucket = 'cdl';
  const endpoint = `http://${address}`;
  const client = new Client({ endPoint: '127.0.0.1', port, useSSL: false, region: 'us-east-1', ...root });
  await client.makeBucket(bucket);

  const kill = async () => {
    server.kill('SIGKILL');
    await exited;
  };
  return {
    endpoint,
    bucket,
    root,
    async notify(arn, prefix) {
      const [, partition, service, region, id, resource] = arn.split(':');
      const target = new QueueConfig(buildARN(partition!, service!, region!, id!, resource!));
      target.addEvent(ObjectCreatedAll);
      target.addFilterPrefix(prefix);
      const config = new NotificationConfig();
      config.add(target);
      await client.setBucketNotification(bucket, config);
    },
    kill,
    async restrictedTo(prefix) {
      const policy = {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Allow',
            Action: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:AbortMultipartUpload'],
            Resource: [`arn:aws:s3:::${bucket}/${prefix}*`],
          },
          {
            Effect: 'Allow',
            Action: ['s3:ListBucket'],
            Resource: [`arn:aws:s3:::${bucket}`],
            Condition: { StringLike: { 's3:prefix': [`${prefix}*`] } },
          },
        ],
      };
      const provider = new AssumeRoleProvider({
        stsEndpoint: endpoint,
        ...root,
        region: 'us-east-1',
        durationSeconds: 3600,
        policy: JSON.stringify(policy),
      });
      const given = await provider.getCredentials();
      return {
        accessKey: given.getAccessKey(),
        secretKey: given.getSecretKey(),
        sessionToken: given.getSessionToken() ?? '',
      };
    },
    async dispose() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
