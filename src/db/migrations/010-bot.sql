-- What the bot remembers and cannot read again from forge, git or store. Digests are sha256:<64 digits>.

-- Approvals by people, each for the one review it names; they are void for any other.
create table bot_approvals (
  project text not null,
  change bigint not null,
  model text not null,
  environment text not null,
  review text not null,
  user_id text not null,
  username text not null,
  role text not null,
  override text,
  comment text not null,
  at timestamptz not null,
  primary key (project, change, model, environment, review, user_id)
);

-- Changes sent back to a step: the newest word of each person.
create table bot_rejections (
  project text not null,
  change bigint not null,
  user_id text not null,
  username text not null,
  head text not null,
  candidates text[] not null,
  step text not null,
  reason text not null,
  at timestamptz not null,
  primary key (project, change, user_id)
);

-- Pipelines started to answer a question about a candidate.
create table bot_evaluations (
  project text not null,
  question text not null,
  pipeline text not null,
  head text not null,
  primary key (project, question)
);

-- Pictures uploaded to the forge, by the digest of the data they show.
create table bot_pictures (
  project text not null,
  key text not null,
  markdown text not null,
  primary key (project, key)
);

-- Comments that were answered, or need no answer.
create table bot_comments (
  project text not null,
  comment text not null,
  handled_at timestamptz not null default now(),
  primary key (project, comment)
);

-- How far the bot has looked.
create table bot_cursors (
  project text not null,
  name text not null,
  value text not null,
  primary key (project, name)
);
