import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fullPath, level, requireProject } from '../access.ts';
import { text } from '../params.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Project } from '../state.ts';

/** Content types that browsers may show in place; everything else is a download, as on GitLab. */
const inline = /^image\/(png|jpeg|gif|webp)$/;

/** `POST /projects/:id/uploads` (multipart `file`): answers the Markdown that shows it. */
export async function upload(call: Call): Promise<Reply> {
  const project = requireProject(call, level.guest);
  const file = call.files.file;
  if (!file) throw new ApiError(400, { error: 'file is invalid' });
  const secret = randomBytes(16).toString('hex');
  const name = file.filename.replace(/[^\w.\-+]/g, '_');
  const folder = join(call.world.folder, 'uploads', String(project.id), secret);
  await mkdir(folder, { recursive: true });
  await copyFile(file.path, join(folder, name));
  project.uploads.set(`${secret}/${name}`, { file: join(folder, name), name, contentType: file.contentType });
  const url = `/uploads/${secret}/${name}`;
  const alt = name.replace(/\.[^.]+$/, '');
  return {
    status: 201,
    body: {
      id: project.uploads.size,
      alt,
      url,
      full_path: `/-/project/${project.id}${url}`,
      markdown: `${inline.test(file.contentType) ? '!' : ''}[${inline.test(file.contentType) ? alt : name}](${url})`,
    },
  };
}

/** An upload as an answer; null when there is none of this name. */
export async function sendUpload(project: Project, secret: string, name: string): Promise<Reply | null> {
  const found = project.uploads.get(`${secret}/${name}`);
  if (!found) return null;
  const { size } = await stat(found.file);
  const shown = inline.test(found.contentType);
  return {
    status: 200,
    body: createReadStream(found.file),
    headers: {
      'content-type': shown ? found.contentType : 'application/octet-stream',
      'content-length': String(size),
      'content-disposition': `${shown ? 'inline' : 'attachment'}; filename="${found.name}"`,
      'x-content-type-options': 'nosniff',
    },
  };
}

/** `GET /projects/:id/uploads/:secret/:filename`. */
export async function getUpload(call: Call): Promise<Reply> {
  const project = requireProject(call, level.guest);
  const reply = await sendUpload(project, call.params.secret ?? '', call.params.filename ?? '');
  if (!reply) throw new ApiError(404, '404 Not found');
  return reply;
}

function packageFile(call: Call, project: Project): string {
  const { package_name: name = '', package_version: version = '', file_name: file = '' } = call.params;
  const valid = /^[\w.+-][\w.+~-]*$/;
  for (const [what, value] of Object.entries({
    package_name: name,
    package_version: version,
    file_name: file,
  })) {
    if (!valid.test(value) || value === '..' || value === '.')
      throw new ApiError(400, { error: `${what} is invalid` });
  }
  return join(call.world.folder, 'packages', String(project.id), name, version, file);
}

/** `PUT /projects/:id/packages/generic/:package_name/:package_version/:file_name` with the file as the raw body. */
export async function publishPackage(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const path = packageFile(call, project);
  await mkdir(dirname(path), { recursive: true });
  const partial = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await pipeline(call.request, createWriteStream(partial));
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
  const { size } = await stat(path);
  if (text(call, 'select') === 'package_file') {
    const hash = createHash('sha256');
    await pipeline(createReadStream(path), hash);
    return { status: 201, body: { file_name: call.params.file_name, size, file_sha256: hash.digest('hex') } };
  }
  return { status: 201, body: { message: '201 Created' } };
}

/** `GET /projects/:id/packages/generic/:package_name/:package_version/:file_name`. */
export async function getPackage(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const path = packageFile(call, project);
  const found = await stat(path).catch(() => null);
  if (!found) throw new ApiError(404, `404 Package Not Found in ${fullPath(project)}`);
  return {
    status: 200,
    body: createReadStream(path),
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(found.size) },
  };
}
