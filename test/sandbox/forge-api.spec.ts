import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { generateGitlabApi, missingOperations, unknownParameters } from '../../src/sandbox/openapi.ts';
import { forgeRoutes } from '../../src/sandbox/routes.ts';

const root = resolve(import.meta.dirname, '../..');
const spec = join(process.env.CDL_SHARED ?? join(root, '../shared'), 'specs/gitlab-openapi-v2.yaml');
const generated = join(root, 'src/sandbox/gitlab-api.generated.json');

describe('the route table of the sandbox', () => {
  it.skipIf(!existsSync(spec))(
    'matches the committed extract of gitlab-openapi-v2.yaml (skipped: file absent)',
    () => {
      const text = generateGitlabApi(readFileSync(spec, 'utf8'), forgeRoutes);
      if (process.env.CDL_WRITE_GENERATED) writeFileSync(generated, text);
      expect(readFileSync(generated, 'utf8')).toBe(text);
    },
  );

  it('names only operations that GitLab has, or an exception with its page', () => {
    const api = JSON.parse(readFileSync(generated, 'utf8'));
    expect(missingOperations(api, forgeRoutes)).toEqual([]);
    for (const route of forgeRoutes) {
      if ('doc' in route.spec)
        expect(route.spec.doc).toMatch(/^https:\/\/docs\.gitlab\.com\/api\/[a-z_]+\/#/);
      else if (route.spec.extra) expect(route.spec.extraDoc).toMatch(/^https:\/\/docs\.gitlab\.com\/api\//);
    }
  });

  it('has each method and path once', () => {
    const keys = forgeRoutes.map((route) => `${route.method} ${route.path}`);
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('knows a parameter that GitLab does not', () => {
    const api = JSON.parse(readFileSync(generated, 'utf8'));
    const route = forgeRoutes.find((entry) => entry.path === '/projects/:id/pipeline');
    if (!route) throw new Error('no route for pipelines');
    expect(unknownParameters(api, route, { query: [], body: ['ref', 'inputs', 'nonsense'] })).toEqual([
      'nonsense',
    ]);
  });
});
