import { requireUser } from '../access.ts';
import { paginate } from '../page.ts';
import { presentUser } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';

/** `GET /user` (doc: api/users). */
export function currentUser(call: Call): Reply {
  const user = requireUser(call);
  return {
    status: 200,
    body: {
      ...presentUser(call.world, user),
      bot: user.bot,
      email: '',
      is_admin: false,
      two_factor_enabled: false,
    },
  };
}

/** `GET /users/:id`. */
export function userById(call: Call): Reply {
  const user = call.world.users.get(Number(call.params.id));
  if (!user) throw new ApiError(404, '404 User Not Found');
  return { status: 200, body: { ...presentUser(call.world, user), bot: user.bot } };
}

/** `GET /users?username=`. */
export function usersByName(call: Call): Reply {
  const wanted = String(call.query.username ?? '').toLowerCase();
  const users = [...call.world.users.values()].filter(
    (user) => wanted === '' || user.username.toLowerCase() === wanted,
  );
  return { status: 200, body: users.map((user) => presentUser(call.world, user)) };
}

/** `GET /groups/:id/members/all`: the groups that were seeded; anybody may see them. */
export function groupMembers(call: Call): Promise<Reply> {
  const group = call.world.groups.get((call.params.id ?? '').toLowerCase());
  if (!group) throw new ApiError(404, '404 Group Not Found');
  return paginate(call, [...group], (id) => ({
    ...presentUser(call.world, call.world.users.get(id)),
    access_level: 30,
    expires_at: null,
    membership_state: 'active',
  }));
}

/** `GET /personal_access_tokens/self`. */
export function currentToken(call: Call): Reply {
  const user = requireUser(call);
  const scopes = call.token?.scopes ?? [];
  return { status: 200, body: { name: 'sandbox', revoked: false, active: true, user_id: user.id, scopes } };
}

/** `GET /version`. */
export function version(): Reply {
  return { status: 200, body: { version: '19.4.0', revision: 'sandbox' } };
}

/** `GET /metadata`. */
export function metadata(): Reply {
  return {
    status: 200,
    body: {
      version: '19.4.0',
      revision: 'sandbox',
      kas: { enabled: false, externalUrl: null, version: null },
      enterprise: false,
    },
  };
}
