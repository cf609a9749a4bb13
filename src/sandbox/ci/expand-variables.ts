/** A variable as a job or a pipeline carries it; `expand: false` keeps `$` in its value literal. */
export interface CiVariable {
  key: string;
  value: string;
  expand: boolean;
}

const reference = /\$\$|\$\{([a-zA-Z_]\w*)\}|\$([a-zA-Z_]\w*)/g;

/** Replaces `$X` and `${X}` once; unknown names become empty, `$$` a dollar (doc: ci/variables/where_variables_can_be_used). */
export function expandText(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(reference, (match, braced: string | undefined, plain: string | undefined) =>
    match === '$$' ? '$' : (values.get(braced ?? plain ?? '') ?? ''),
  );
}

/**
 * The final values of a list of variables, later entries winning. A value may refer to any other variable; values that must
 * not be expanded are inserted as they are, and a variable that refers to itself sees nothing there.
 */
export function resolveVariables(list: readonly CiVariable[]): Map<string, string> {
  const raw = new Map(list.map((variable) => [variable.key, variable]));
  const done = new Map<string, string>();
  const resolve = (key: string, open: readonly string[]): string => {
    const known = done.get(key);
    if (known !== undefined) return known;
    const variable = raw.get(key);
    if (variable === undefined || open.includes(key)) return '';
    if (!variable.expand) return variable.value;
    return variable.value.replace(
      reference,
      (match, braced: string | undefined, plain: string | undefined) =>
        match === '$$' ? '$' : resolve(braced ?? plain ?? '', [...open, key]),
    );
  };
  for (const key of raw.keys()) done.set(key, resolve(key, []));
  return done;
}
