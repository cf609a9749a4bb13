-- A task about a change reads all notes about it at once: those called <what>/<number of the change>, with or without more.
create index bot_cursors_change on bot_cursors (project, split_part(name, '/', 2));
