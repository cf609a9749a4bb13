import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { countForge, createMetrics, metricsText } from '../../bot/metrics.ts';
import { send } from '../../src/forge/http.ts';
import { createLimits } from '../../src/forge/limits.ts';
import { routeOf } from '../../src/forge/requests.ts';

/** What Prometheus reads of our own: one line for each name. */
async function names(): Promise<string[]> {
  const text = await metricsText(createMetrics({ process: false }));
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
  return [...text.matchAll(/^# HELP (\S+) (.+)$/gm)].map(
    ([, name, help]) => `${name} (${types.get(name)}): ${help}`,
  );
}

describe('the metrics', () => {
  it('have these names, units and meanings', async () => {
    const found = await names();
    await expect(`${found.sort().join('\n')}\n`).toMatchFileSnapshot('../golden/metrics.txt');
    for (const line of found) {
      const [, name, type] = /^(\S+) \((\w+)\)/.exec(line)!;
      expect(name).toMatch(/^cdl_bot_/);
      if (type === 'counter') expect(name).toMatch(/_total$/);
      if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    }
  });

  it('are what the alerts ask for', async () => {
    const { groups } = parse(await readFile('bot/alerts.yaml', 'utf8')) as {
      groups: {
        rules: { alert: string; expr: string; labels: object; annotations: { summary: string } }[];
      }[];
    };
    const known = new Set((await names()).map((line) => line.split(' ', 1)[0]!));
    const asked = groups.flatMap(({ rules }) => rules.flatMap(({ expr }) => expr.match(/\bcdl_\w+/g) ?? []));
    expect(asked.length).toBeGreaterThan(5);
    expect(
      asked.map((name) => name.replace(/_(bucket|sum|count)$/, '')).filter((name) => !known.has(name)),
    ).toEqual([]);
    for (const { rules } of groups)
      for (const rule of rules)
        expect(rule).toMatchObject({ labels: {}, annotations: { summary: expect.any(String) } });
  });
});

describe('requests to the forge', () => {
  const answers: { status: number; headers?: Record<string, string> }[] = [];
  const server = createServer((_request, response) => {
    const { status, headers } = answers.shift()!;
    response.writeHead(status, headers).end('{}');
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it('are counted by route and status, with what is sent again and what the rate limit cost', async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const metrics = createMetrics({ process: false });
    const stop = countForge(metrics);
    const limits = createLimits();
    const ask = (path: string) => {
      const request = { method: 'GET', url: new URL(path, base), headers: {}, body: null };
      return send({ ...request, network: { limits } }, async () => {}).then(({ body }) => body.resume());
    };
    answers.push({ status: 502 }, { status: 429, headers: { 'retry-after': '7' } }, { status: 200 });
    await ask('/api/v4/projects/acme%2Ffashion/merge_requests/7');
    answers.push({ status: 200 });
    await ask('/api/v4/projects/acme%2Ffashion/merge_requests/8');
    answers.push({ status: 404 });
    await ask('/api/v4/projects/3/repository/files/secret.txt/raw').catch(() => undefined);
    stop();
    answers.push({ status: 200 });
    await ask('/api/v4/version');
    const text = await metricsText(metrics);
    const route = 'route="/api/v4/projects/:x/merge_requests/:x"';
    for (const [status, times] of Object.entries({ 502: 1, 429: 1, 200: 2 }))
      expect(text).toContain(
        `cdl_bot_forge_requests_total{method="GET",${route},status="${status}"} ${times}`,
      );
    expect(text).toContain('route="/api/v4/projects/:x/repository/files/:x/raw",status="404"} 1');
    expect(text).toContain('cdl_bot_forge_retries_total 2');
    // Seven seconds for the one that was refused; it and the next of its kind are held for what is left of them.
    const waited = Number(/^cdl_bot_forge_rate_limit_wait_seconds_total (\S+)$/m.exec(text)![1]);
    expect(waited).toBeGreaterThan(15);
    expect(waited).toBeLessThanOrEqual(21);
    expect(text).not.toMatch(/fashion|secret|version"/);
  });

  it.each([
    ['/api/v4/projects/12/statuses/0a1b2c', '/api/v4/projects/:x/statuses/:x'],
    ['/git/api/v4/users/5', '/git/api/v4/users/:x'],
    ['/repos/acme/fashion/contents/a/b/c.txt', '/repos/:x/contents/:x'],
    ['/', '/'],
  ])('of %s have the route %s', (path, route) => expect(routeOf(path)).toBe(route));
});
