-- Everything a run tells of itself but its curve: status and reason, seed, environment, cost (seconds, gpus), who, pipeline,
-- commit. The index is filled again from the store, this time also with the values that were logged within epochs.
delete from runs;
alter table runs add column facts jsonb not null;
