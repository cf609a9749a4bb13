import { z } from 'zod';
import { type Digest, isDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { readBody, send } from '../forge/http.ts';

/** Where a Label Studio server is. `token` is a legacy token or a personal access token (a JWT, exchanged for access tokens). */
export interface LabelServerAccess {
  url: string;
  token: string;
}

/** What a task shows, and the item that it is about. `content` is a text, or the URL of a picture. */
export interface TaskData {
  item: Digest;
  /** The data version the item came from. */
  version: Digest;
  content: string;
}

/** An annotation that counts. `at` is when it was last changed, ISO 8601. */
export interface TaskAnnotation {
  id: string;
  labeler: string | null;
  choices: string[];
  at: string;
}

/** One task as the server has it. `item` is what it says of itself: text that is to be checked. */
export interface Task {
  id: number;
  item: string | null;
  version: Digest | null;
  content: string;
  annotations: TaskAnnotation[];
  /** Annotations that were exported elsewhere and imported here, which do not count. (The server marks no others.) */
  imported: number;
}

/** A Label Studio server, as far as it is used here. */
export interface LabelServer {
  readonly url: string;
  /** The project of this title with choices of these classes; made or corrected where needed. Returns its number. */
  ensureProject(
    title: string,
    kind: 'text' | 'image',
    classes: readonly string[],
    multiple: boolean,
  ): Promise<number>;
  /**
   * Every task of a project with its annotations, a page at a time. Throws UpstreamError (retryable) when tasks are removed
   * meanwhile: then it is not known whether these were all.
   */
  listTasks(project: number): AsyncIterable<Task>;
  /** Adds tasks without any label. */
  importTasks(project: number, tasks: readonly TaskData[]): Promise<void>;
  /** Gives a task another content, the rest as it was: URLs of pictures run out. */
  refreshTask(task: Task, content: string): Promise<void>;
  /** Has the server tell this URL of every change of an annotation. */
  ensureWebhook(project: number, url: string, headers: Readonly<Record<string, string>>): Promise<void>;
}

/** The events that say that annotations changed (Label Studio, webhooks/models.py, WebhookAction). */
export const webhookActions = [
  'ANNOTATION_CREATED',
  'ANNOTATIONS_CREATED',
  'ANNOTATION_UPDATED',
  'ANNOTATIONS_DELETED',
] as const;

const pageSize = 200;
const largestAnswer = 256 * 1024 * 1024;

const annotationSchema = z.object({
  id: z.union([z.int(), z.string()]),
  // A number, or the person written out; an old or an imported annotation may have none.
  completed_by: z.union([z.int(), z.object({ id: z.int() })]).nullish(),
  result: z.array(
    z.object({
      type: z.string().optional(),
      value: z.object({ choices: z.array(z.string()).optional() }).optional(),
    }),
  ),
  was_cancelled: z.boolean().nullish(),
  created_at: z.string(),
  updated_at: z.string().nullish(),
  import_id: z.int().nullish(),
  last_action: z.string().nullish(),
});

const taskSchema = z.object({
  id: z.int(),
  data: z.record(z.string(), z.unknown()),
  annotations: z.array(annotationSchema).default([]),
});

const pageSchema = z.object({ total: z.int(), tasks: z.array(taskSchema) });
const projectSchema = z.object({ id: z.int(), title: z.string().nullable(), label_config: z.string() });
const projectsSchema = z.object({ count: z.int(), results: z.array(projectSchema) });
const webhookSchema = z.object({
  id: z.int(),
  project: z.int().nullable(),
  url: z.string(),
  headers: z.record(z.string(), z.string()).default({}),
  is_active: z.boolean(),
});

const xml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** The labelling page of a project (labelstud.io/tags): the item, and one choice a class. */
export function labelConfig(kind: 'text' | 'image', classes: readonly string[], multiple: boolean): string {
  const shown = kind === 'text' ? 'Text' : 'Image';
  return [
    '<View>',
    `  <${shown} name="content" value="$content"/>`,
    `  <Choices name="label" toName="content" choice="${multiple ? 'multiple' : 'single'}" showInLine="true">`,
    ...classes.map((name) => `    <Choice value="${xml(name)}"/>`),
    '  </Choices>',
    '</View>',
  ].join('\n');
}

function taskOf(raw: z.output<typeof taskSchema>): Task {
  const counts = raw.annotations.filter(({ was_cancelled }) => was_cancelled !== true);
  const own = counts.filter(({ import_id, last_action }) => import_id == null && last_action !== 'imported');
  const { cdl_item: item, cdl_version: version, content } = raw.data;
  return {
    id: raw.id,
    item: typeof item === 'string' ? item : null,
    version: isDigest(version) ? version : null,
    content: typeof content === 'string' ? content : '',
    imported: counts.length - own.length,
    annotations: own.map((one) => {
      const by = one.completed_by;
      const choices = one.result.flatMap(({ value }) => value?.choices ?? []);
      return {
        id: String(one.id),
        labeler: by == null ? null : String(typeof by === 'number' ? by : by.id),
        choices: [...new Set(choices)].sort(),
        at: new Date(one.updated_at ?? one.created_at).toISOString(),
      };
    }),
  };
}

/** Whether a token is a personal access token: a JSON Web Token, three parts (RFC 7519). */
const isPersonal = (token: string) => token.split('.').length === 3;

/**
 * Opens a Label Studio server by its REST API (api.labelstud.io). Throws UserError labels-denied for a token that is not
 * taken, config-invalid for a URL that is none; UpstreamError when the server fails or answers something else.
 */
export function openLabelStudio(access: LabelServerAccess): LabelServer {
  if (!/^https?:$/.test(URL.canParse(access.url) ? new URL(access.url).protocol : '')) {
    throw new UserError(
      'config-invalid',
      `the label server ${JSON.stringify(access.url)} is no http address`,
    );
  }
  const base = access.url.replace(/\/+$/, '');
  let bearer: Promise<string> | null = null;

  async function once(method: string, path: string, body: unknown, authorization: string | null) {
    const received = await send({
      method,
      url: new URL(`${base}${path}`),
      headers: {
        accept: 'application/json',
        'content-type': 'application/json',
        ...(authorization !== null && { authorization }),
      },
      body: body === undefined ? null : Buffer.from(JSON.stringify(body)),
      idle: 120_000,
    });
    const bytes = await readBody(received.body, largestAnswer);
    if (!bytes) throw new UpstreamError('Label Studio', `${path}: a too long answer`, { retryable: false });
    try {
      return JSON.parse(bytes.toString('utf8') || 'null') as unknown;
    } catch (cause) {
      throw new UpstreamError('Label Studio', `${path}: the answer is not JSON`, { retryable: true, cause });
    }
  }

  const authorization = async () => {
    if (!isPersonal(access.token)) return `Token ${access.token}`;
    bearer ??= once('POST', '/api/token/refresh/', { refresh: access.token }, null).then(
      (answer) => `Bearer ${z.object({ access: z.string() }).parse(answer).access}`,
    );
    return bearer;
  };

  async function ask<T extends z.ZodType>(
    schema: T,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<z.output<T>> {
    let answer: unknown;
    for (let attempt = 1; ; attempt++) {
      try {
        answer = await once(method, path, body, await authorization());
        break;
      } catch (error) {
        bearer = null;
        if (!(error instanceof UserError && error.code === 'forge-denied')) throw error;
        // An access token lasts minutes; a second refusal is one of the token itself.
        if (attempt === 1 && isPersonal(access.token)) continue;
        throw new UserError('labels-denied', error.message, undefined, { cause: error });
      }
    }
    const parsed = schema.safeParse(answer);
    if (parsed.success) return parsed.data;
    const why = z.prettifyError(parsed.error);
    throw new UpstreamError('Label Studio', `${path}: an unexpected answer: ${why}`, { retryable: false });
  }

  return {
    url: base,

    async ensureProject(title, kind, classes, multiple) {
      const found: z.output<typeof projectSchema>[] = [];
      for (let page = 1, seen = 0; ; page++) {
        const query = new URLSearchParams({ title, page: String(page), page_size: '100' });
        const { count, results } = await ask(projectsSchema, 'GET', `/api/projects/?${query}`);
        // The server finds what contains the title.
        found.push(...results.filter((one) => one.title === title));
        seen += results.length;
        if (seen >= count || results.length === 0) break;
      }
      if (found.length > 1) {
        throw new UserError(
          'config-invalid',
          `${base} has ${found.length} projects called "${title}"`,
          'rename all but one of them',
        );
      }
      const config = labelConfig(kind, classes, multiple);
      const [project] = found;
      if (!project) {
        return (await ask(projectSchema, 'POST', '/api/projects/', { title, label_config: config })).id;
      }
      if (project.label_config !== config) {
        await ask(projectSchema, 'PATCH', `/api/projects/${project.id}/`, { label_config: config });
      }
      return project.id;
    },

    async *listTasks(project) {
      // What is removed moves the rest forward: some task would be on no page, and look as if it were gone, too.
      const moved = () =>
        new UpstreamError('Label Studio', `tasks of project ${project} were removed while they were listed`, {
          retryable: true,
        });
      for (let page = 1, seen = 0, before = 0; ; page++) {
        const query = new URLSearchParams({
          project: String(project),
          page: String(page),
          page_size: String(pageSize),
          fields: 'all',
        });
        const answer = await ask(pageSchema, 'GET', `/api/tasks?${query}`).catch((error: unknown) => {
          if (page > 1 && error instanceof UpstreamError && error.status === 404) throw moved();
          throw error;
        });
        if (answer.total < before) throw moved();
        before = answer.total;
        for (const task of answer.tasks) yield taskOf(task);
        seen += answer.tasks.length;
        if (seen >= answer.total || answer.tasks.length === 0) return;
      }
    },

    async importTasks(project, tasks) {
      for (let at = 0; at < tasks.length; at += pageSize) {
        const body = tasks.slice(at, at + pageSize).map(({ item, version, content }) => ({
          data: { content, cdl_item: item, cdl_version: version },
        }));
        await ask(z.object({ task_count: z.int() }), 'POST', `/api/projects/${project}/import`, body);
      }
    },

    async refreshTask(task, content) {
      const data = { content, cdl_item: task.item, cdl_version: task.version };
      await ask(z.object({ id: z.int() }), 'PATCH', `/api/tasks/${task.id}/`, { data });
    },

    async ensureWebhook(project, url, headers) {
      const all = await ask(z.array(webhookSchema), 'GET', `/api/webhooks/?project=${project}`);
      const wanted = {
        project,
        url,
        headers,
        actions: webhookActions,
        send_payload: false,
        send_for_all_actions: false,
        is_active: true,
      };
      const mine = all.find((one) => one.url === url && one.project === project);
      if (!mine) await ask(webhookSchema, 'POST', '/api/webhooks/', wanted);
      else if (!mine.is_active || JSON.stringify(mine.headers) !== JSON.stringify(headers)) {
        const { project: _project, ...changes } = wanted;
        await ask(webhookSchema, 'PATCH', `/api/webhooks/${mine.id}/`, changes);
      }
    },
  };
}
