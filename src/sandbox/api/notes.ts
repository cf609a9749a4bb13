import { accessOf, level, requireMergeRequest, requireProject, requireUser } from '../access.ts';
import { newNote, now } from '../forge.ts';
import { diff, readBlob } from '../git.ts';
import { paginate, sorted } from '../page.ts';
import { flag, oneOf, requiredText, text } from '../params.ts';
import { presentEmoji, presentNote } from '../present.ts';
import { diffRefs } from '../present-merge-request.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import { announce, type Issue, type MergeRequest, type Note, type Project } from '../state.ts';

/** The longest note GitLab takes, in characters. */
export const longestNote = 1_000_000;

/** What notes hang on: a merge request or an issue, by the name of the parameter in the path. */
type Noteable =
  | { type: 'MergeRequest'; id: number; iid: number; notes: Note[]; mr: MergeRequest }
  | { type: 'Issue'; id: number; iid: number; notes: Note[]; issue: Issue };

function find(call: Call): { project: Project; on: Noteable } {
  const project = requireProject(call, call.params.issue_iid === undefined ? level.reporter : level.guest);
  if (call.params.issue_iid === undefined) {
    const mr = requireMergeRequest(call, project);
    return { project, on: { type: 'MergeRequest', id: mr.id, iid: mr.iid, notes: mr.notes, mr } };
  }
  const issue = project.issues.get(Number(call.params.issue_iid));
  if (!issue) throw new ApiError(404, '404 Issue Not Found');
  return { project, on: { type: 'Issue', id: issue.id, iid: issue.iid, notes: issue.notes, issue } };
}

function requireNote(call: Call, on: Noteable): Note {
  const note = on.notes.find((entry) => entry.id === Number(call.params.note_id));
  if (!note) throw new ApiError(404, '404 Note Not Found');
  return note;
}

function readBody(call: Call): string {
  const body = requiredText(call, 'body');
  if ([...body].length > longestNote)
    throw new ApiError(400, { message: { note: [`is too long (maximum is ${longestNote} characters)`] } });
  if (body.trim() === '') throw new ApiError(400, { message: { note: ["can't be blank"] } });
  return body;
}

function tell(call: Call, project: Project, on: Noteable, note: Note, action: 'create' | 'update'): void {
  if (on.type === 'MergeRequest') announce(call.world, { kind: 'note', project, mr: on.mr, note, action });
}

/** `GET …/notes`, newest first unless `sort=asc`. */
export function listNotes(call: Call): Promise<Reply> {
  const { project, on } = find(call);
  const filter =
    oneOf(call, 'activity_filter', ['all_notes', 'only_comments', 'only_activity']) ?? 'all_notes';
  const order = oneOf(call, 'order_by', ['created_at', 'updated_at']) ?? 'created_at';
  const notes = on.notes.filter(
    (note) => filter === 'all_notes' || note.system === (filter === 'only_activity'),
  );
  const key = (note: Note) => (order === 'updated_at' ? note.updatedAt : note.id);
  return paginate(call, sorted(notes, key, call.query.sort), (note) =>
    presentNote(call.world, project, on, note),
  );
}

/** `GET …/notes/:note_id`. */
export function getNote(call: Call): Reply {
  const { project, on } = find(call);
  return { status: 200, body: presentNote(call.world, project, on, requireNote(call, on)) };
}

/** `POST …/notes`. */
export function createNote(call: Call): Reply {
  const { project, on } = find(call);
  const note = newNote(call, requireUser(call).id, readBody(call));
  on.notes.push(note);
  tell(call, project, on, note, 'create');
  return { status: 201, body: presentNote(call.world, project, on, note) };
}

/** `PUT …/notes/:note_id`: by its author or a Maintainer. An edit fires the note hook again. */
export function editNote(call: Call): Reply {
  const { project, on } = find(call);
  const note = requireNote(call, on);
  const user = requireUser(call);
  if (note.system || (note.authorId !== user.id && accessOf(project, user, call.token) < level.maintainer))
    throw new ApiError(403, '403 Forbidden');
  const body = readBody(call);
  if (body !== note.body) {
    note.body = body;
    note.updatedAt = now();
    tell(call, project, on, note, 'update');
  }
  return { status: 200, body: presentNote(call.world, project, on, note) };
}

/** `DELETE …/notes/:note_id`. */
export function deleteNote(call: Call): Reply {
  const { project, on } = find(call);
  const note = requireNote(call, on);
  const user = requireUser(call);
  if (note.system || (note.authorId !== user.id && accessOf(project, user, call.token) < level.maintainer))
    throw new ApiError(403, '403 Forbidden');
  on.notes.splice(on.notes.indexOf(note), 1);
  return { status: 204 };
}

function presentDiscussion(call: Call, project: Project, on: Noteable, id: string) {
  const notes = on.notes.filter((note) => note.discussionId === id);
  return {
    id,
    individual_note: notes.length === 1,
    notes: notes.map((note) => presentNote(call.world, project, on, note)),
  };
}

/** `GET …/discussions`, oldest first. */
export function listDiscussions(call: Call): Promise<Reply> {
  const { project, on } = find(call);
  const ids = [...new Set(on.notes.map((note) => note.discussionId))];
  return paginate(call, ids, (id) => presentDiscussion(call, project, on, id));
}

/** `GET …/discussions/:discussion_id`. */
export function getDiscussion(call: Call): Reply {
  const { project, on } = find(call);
  const id = call.params.discussion_id ?? '';
  if (!on.notes.some((note) => note.discussionId === id)) throw new ApiError(404, '404 Discussion Not Found');
  return { status: 200, body: presentDiscussion(call, project, on, id) };
}

/** The line of a diff a thread is to stand at. Throws an ApiError 400 for one that the diff does not have. */
async function readPosition(
  project: Project,
  mr: MergeRequest,
  value: unknown,
): Promise<NonNullable<Note['position']>> {
  const invalid = (what: string) =>
    new ApiError(400, { message: `400 Bad request - Note {:${what}=>["is invalid"]}` });
  if (!value || typeof value !== 'object' || Array.isArray(value)) throw invalid('position');
  const given = value as Record<string, unknown>;
  if (given.position_type !== 'text') throw invalid('position_type');
  const refs = await diffRefs(project, mr);
  for (const name of ['base_sha', 'start_sha', 'head_sha'] as const) {
    if (given[name] !== refs[name]) throw invalid(name);
  }
  const files = refs.base_sha === null ? [] : await diff(project.repository, refs.base_sha, mr.sha);
  const file = files.find((one) => one.newPath === given.new_path);
  if (!file) throw invalid('line_code');
  const line = (name: string) => (Number.isInteger(given[name]) ? Number(given[name]) : null);
  const [new_line, old_line] = [line('new_line'), line('old_line')];
  const blob = await readBlob(project.repository, mr.sha, file.newPath);
  const lines = blob === null ? 0 : blob.bytes.toString('utf8').split('\n').length;
  if (new_line === null || new_line < 1 || new_line > lines) throw invalid('line_code');
  return { ...given, new_path: file.newPath, new_line, old_line };
}

/** `POST …/discussions`; with `position` at a line of a merge request's diff. */
export async function createDiscussion(call: Call): Promise<Reply> {
  const { project, on } = find(call);
  const { position } = call.body;
  if ((position !== undefined && on.type !== 'MergeRequest') || text(call, 'commit_id') !== null)
    throw new ApiError(501, { error: 'the sandbox has no threads on commits or issues' });
  const place =
    position !== undefined && on.type === 'MergeRequest'
      ? { position: await readPosition(project, on.mr, position), resolved: false }
      : {};
  const note = { ...newNote(call, requireUser(call).id, readBody(call)), ...place };
  on.notes.push(note);
  tell(call, project, on, note, 'create');
  return { status: 201, body: presentDiscussion(call, project, on, note.discussionId) };
}

/** `PUT …/discussions/:discussion_id`: resolves a thread on a line, or opens it again. */
export function resolveDiscussion(call: Call): Reply {
  const { project, on } = find(call);
  const id = call.params.discussion_id ?? '';
  const notes = on.notes.filter((note) => note.discussionId === id);
  if (notes.length === 0) throw new ApiError(404, '404 Discussion Not Found');
  if (accessOf(project, requireUser(call), call.token) < level.developer)
    throw new ApiError(403, '403 Forbidden');
  const resolved = flag(call, 'resolved');
  if (resolved === null) throw new ApiError(400, { error: 'resolved is missing' });
  for (const note of notes) if (note.position) note.resolved = resolved;
  return { status: 200, body: presentDiscussion(call, project, on, id) };
}

/** `POST …/discussions/:discussion_id/notes`: a reply. */
export function replyToDiscussion(call: Call): Reply {
  const { project, on } = find(call);
  const id = call.params.discussion_id ?? '';
  const first = on.notes.find((note) => note.discussionId === id);
  if (!first) throw new ApiError(404, '404 Discussion Not Found');
  if (first.system) throw new ApiError(400, '400 Bad request - Cannot reply to a system note');
  const note = { ...newNote(call, requireUser(call).id, readBody(call)), discussionId: id };
  on.notes.push(note);
  tell(call, project, on, note, 'create');
  return { status: 201, body: presentNote(call.world, project, on, note) };
}

/** `GET …/notes/:note_id/award_emoji`. */
export function listEmoji(call: Call): Promise<Reply> {
  const { on } = find(call);
  const note = requireNote(call, on);
  return paginate(call, note.emoji, (emoji) => presentEmoji(call.world, note, emoji));
}

/** `POST …/notes/:note_id/award_emoji`: the same reaction twice is 404, as on GitLab. */
export function awardEmoji(call: Call): Reply {
  const { project, on } = find(call);
  const note = requireNote(call, on);
  const user = requireUser(call);
  const name = requiredText(call, 'name').replaceAll(':', '');
  if (note.emoji.some((entry) => entry.name === name && entry.userId === user.id))
    throw new ApiError(404, '404 Award Emoji Name has already been taken Not Found');
  const emoji = { id: call.world.nextId('emoji'), name, userId: user.id };
  note.emoji.push(emoji);
  if (on.type === 'MergeRequest') announce(call.world, { kind: 'emoji', project, mr: on.mr, note });
  return { status: 201, body: presentEmoji(call.world, note, emoji) };
}

/** `DELETE …/notes/:note_id/award_emoji/:award_id`: one's own. */
export function removeEmoji(call: Call): Reply {
  const { on } = find(call);
  const note = requireNote(call, on);
  const at = note.emoji.findIndex((entry) => entry.id === Number(call.params.award_id));
  if (at < 0) throw new ApiError(404, '404 Award Emoji Not Found');
  if (note.emoji[at]?.userId !== requireUser(call).id) throw new ApiError(401, '401 Unauthorized');
  note.emoji.splice(at, 1);
  return { status: 204 };
}
