-- When a row was imported is not in the store, so that it could not be rebuilt from there: the index held one column more than
-- its truth, and nothing reads it.
alter table versions drop column created_at;
alter table evaluations drop column created_at;
