-- What jobs of changes took: the sum that budgets limit. The forge may forget its pipelines, this does not.
create table bot_jobs (
  project text not null,
  job text not null,
  pipeline text not null,
  change bigint not null,
  name text not null,
  seconds double precision not null,
  gpu boolean not null,
  -- Null while it runs.
  ended_at timestamptz,
  primary key (project, job)
);
create index bot_jobs_change on bot_jobs (project, change);
create index bot_jobs_ended on bot_jobs (project, ended_at);

-- Pipelines that the bot started for a change besides those of its branch.
create table bot_pipelines (
  project text not null,
  pipeline text not null,
  change bigint not null,
  primary key (project, pipeline)
);
create index bot_pipelines_change on bot_pipelines (project, change);
