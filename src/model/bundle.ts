import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative } from 'node:path';
import { UserError } from '../core/error.ts';

/**
 * Bundles a model's entry module with everything it imports into one ES module. Only files of the folder (those declared
 * by `code:`) can be imported: anything else, packages included, fails here instead of hiding from the cache.
 * The same files give the same bytes; with `positions` these also say which line of which file each came from. Throws UserError code-invalid with file, line and column.
 */
export async function bundleModel(
  at: string,
  entry: string,
  options: { positions?: boolean } = {},
): Promise<string> {
  // As esbuild names what it finds: the temporary folder may be a link.
  const folder = await realpath(at);
  const checked = Symbol('checked');
  const { build } = await import('esbuild');
  try {
    const result = await build({
      absWorkingDir: folder,
      entryPoints: [join(folder, entry)],
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'neutral',
      target: 'node20',
      charset: 'utf8',
      legalComments: 'none',
      logLevel: 'silent',
      // A tsconfig of a folder above must not change the result.
      tsconfigRaw: {},
      // Files are named as seen from where the bundle lies.
      ...(options.positions && {
        sourcemap: 'inline',
        sourcesContent: false,
        outfile: join(folder, 'bundle.mjs'),
      }),
      plugins: [
        {
          name: 'declared-files-only',
          setup(build) {
            build.onResolve({ filter: /./ }, async (args) => {
              if (args.kind === 'entry-point' || args.pluginData === checked) return null;
              const refused = {
                errors: [
                  {
                    text: `"${args.path}" is not available to model code: tf is an argument, and files must be listed under code: in cdl.yaml`,
                  },
                ],
              };
              if (!args.path.startsWith('.')) return refused;
              const { importer, kind, namespace, resolveDir } = args;
              const found = await build.resolve(args.path, {
                importer,
                kind,
                namespace,
                resolveDir,
                pluginData: checked,
              });
              // `../` may lead out of the folder to whatever lies on this machine.
              const outside =
                relative(folder, found.path).startsWith('..') || isAbsolute(relative(folder, found.path));
              return found.errors.length === 0 && outside ? refused : found;
            });
          },
        },
      ],
    });
    return result.outputFiles[0]!.text;
  } catch (error) {
    const errors = (
      error as {
        errors?: { text: string; location: { file: string; line: number; column: number } | null }[];
      }
    ).errors;
    if (!errors) throw error;
    const lines = errors.map(({ text, location }) =>
      location ? `${location.file}:${location.line}:${location.column + 1}  ${text}` : text,
    );
    throw new UserError('code-invalid', lines.join('\n'), undefined, { cause: error });
  }
}
