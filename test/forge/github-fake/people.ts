import type { FakeUser, Handler } from './state.ts';
import { absent, created, noContent, ok, paged, simpleUser } from './state.ts';

const fullUser = (user: FakeUser): object => ({ ...simpleUser(user), name: null, user_view_type: 'public' });

/** The legacy word for a role: GitHub answers both. */
const legacy = { admin: 'admin', maintain: 'write', write: 'write', triage: 'read', read: 'read' } as const;

export const peopleRoutes: Record<string, Handler> = {
  'GET /user': ({ actor }) => ok(fullUser(actor)),
  'GET /user/{account_id}': ({ state, values }) => {
    const user = state.users.find((one) => one.id === Number(values.account_id));
    return user ? ok(fullUser(user)) : absent;
  },
  'GET /users/{username}': ({ state, values }) => {
    const user = state.users.find((one) => one.login === values.username);
    return user ? ok(fullUser(user)) : absent;
  },
  'GET /app': ({ state }) =>
    ok({
      id: state.app!.id,
      slug: state.app!.slug,
      name: state.app!.slug,
      events: state.app!.events,
      permissions: state.app!.wanted,
    }),
  'GET /repos/{owner}/{repo}/installation': ({ state }) =>
    ok({ id: 77, permissions: state.app!.granted, repository_selection: state.app!.selection }),
  'POST /app/installations/{installation_id}/access_tokens': ({ state }) => {
    const token = `ghs_${state.nextId()}`;
    state.installationTokens.add(token);
    return created({ token, expires_at: new Date(Date.now() + state.tokenSeconds * 1000).toISOString() });
  },
  'GET /repos/{owner}/{repo}/collaborators/{username}': ({ state, values }) => {
    const user = state.users.find((one) => one.login === values.username);
    return user && state.roles.has(user.id) ? noContent : { status: 404, body: null };
  },
  'GET /repos/{owner}/{repo}/collaborators/{username}/permission': ({ state, values }) => {
    const user = state.users.find((one) => one.login === values.username);
    if (!user) return absent;
    const role = state.roles.get(user.id) ?? 'read';
    return ok({ permission: legacy[role], role_name: role, user: simpleUser(user) });
  },
  'GET /orgs/{org}/teams/{team_slug}/members': ({ state, values, query }) => {
    const members = state.teams.get(`${values.org}/${values.team_slug}`);
    if (!members) return absent;
    const users = members.map((id) => state.users.find((one) => one.id === id)!);
    return ok(paged(query, users).map(simpleUser));
  },
};
