import { accessOf, level, requireMergeRequest, requireProject, requireUser } from '../access.ts';
import { newNote, now } from '../forge.ts';
import { paginate, sorted } from '../page.ts';
import { oneOf, requiredText, text } from '../params.ts';
import { presentEmoji, presentNote } from '../present.ts';
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

/** `POST …/discussions`. Threads on lines of a diff (`position`) are answered 501. */
export function createDiscussion(call: Call): Reply {
  const { project, on } = find(call);
  if (call.body.position !== undefined || text(call, 'commit_id') !== null)
    throw new ApiError(501, { error: 'the sandbox has no threads on diff lines: position' });
  const note = newNote(call, requireUser(call).id, readBody(call));
  on.notes.push(note);
  tell(call, project, on, note, 'create');
  return { status: 201, body: presentDiscussion(call, project, on, note.discussionId) };
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
