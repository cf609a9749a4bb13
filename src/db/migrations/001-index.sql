-- What can be found in the store, so that it can be asked for. Every table but deliveries can be emptied and filled again
-- from there. Digests are written as everywhere: sha256:<64 digits>.

-- Webhooks that were taken in, so that one delivered twice is acted on once.
create table deliveries (
  id text primary key,
  received_at timestamptz not null default now()
);
create index deliveries_received_at on deliveries (received_at);

-- Run artifacts.
create table runs (
  digest text primary key,
  project text not null,
  model text not null,
  name text not null,
  created_at timestamptz not null,
  config jsonb not null,
  metrics jsonb not null,
  parents text[] not null
);
create index runs_model on runs (project, model, created_at);

-- The curve of a run: one value a step and metric.
create table run_metrics (
  run text not null references runs on delete cascade,
  step bigint not null,
  name text not null,
  value double precision not null,
  primary key (run, name, step)
);

-- Registered versions: the number is given by the store, one by one for each model.
create table versions (
  project text not null,
  model text not null,
  version integer not null,
  candidate text not null,
  checkpoint text not null,
  run text,
  created_at timestamptz not null,
  info jsonb not null,
  primary key (project, model, version),
  unique (project, model, candidate)
);

-- Evaluation artifacts of trusted/.
create table evaluations (
  digest text primary key,
  project text not null,
  model text not null,
  environment text not null,
  candidate text not null,
  baseline text,
  verdict text not null,
  metrics jsonb not null,
  created_at timestamptz not null
);
create index evaluations_candidate on evaluations (project, model, candidate);

-- Signed decisions of trusted/, whole in envelope; the columns are what is asked for.
create table decisions (
  digest text primary key,
  project text not null,
  model text not null,
  environment text not null,
  seq bigint not null,
  prev text,
  decision text not null,
  candidate text not null,
  evaluation text not null,
  change text not null,
  decided_at timestamptz not null,
  envelope jsonb not null,
  unique (project, model, environment, seq)
);
