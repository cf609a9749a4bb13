-- Every word of every labeler, as the label sync heard it: nothing is ever changed or removed here. It cannot be made again
-- from the store, so it belongs into every backup. One table a side, so that who may read the one need not read the other.
create sequence label_events_seq;

create table label_events (
  seq bigint not null default nextval('label_events_seq'),
  project text not null,
  dataset text not null,
  side text not null check (side in ('train', 'test')),
  -- sha256 of the item's bytes
  item text not null,
  -- the data version the item was pushed from, where known
  version text,
  -- the server and its project
  source text not null,
  annotation text not null,
  kind text not null check (kind in ('created', 'updated', 'deleted')),
  -- empty for a deleted one
  choices text[] not null,
  previous text[],
  -- a number of the server, not a name; a server need not say it
  labeler text,
  -- when the annotation was made or changed, by the server's clock; when its absence was noticed, for a deleted one
  made_at timestamptz not null,
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (side, seq),
  unique (side, project, dataset, source, annotation, made_at)
) partition by list (side);

create table label_events_train partition of label_events for values in ('train');
create table label_events_test partition of label_events for values in ('test');

create index label_events_item on label_events (side, project, dataset, item, seq);
create index label_events_annotation on label_events (side, project, dataset, source, annotation, seq desc);

create function label_events_keep() returns trigger language plpgsql as $$
begin
  raise exception 'label_events is append-only' using errcode = 'insufficient_privilege';
end $$;

create trigger label_events_keep before update or delete on label_events
  for each row execute function label_events_keep();
create trigger label_events_keep_all before truncate on label_events
  for each statement execute function label_events_keep();
create trigger label_events_keep_all before truncate on label_events_train
  for each statement execute function label_events_keep();
create trigger label_events_keep_all before truncate on label_events_test
  for each statement execute function label_events_keep();
