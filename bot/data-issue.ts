import { type Change, type Project, renderMarkdown } from '../src/index.ts';

/** What the issue of `/request-data` is made of. */
export interface DataRequest {
  key: string;
  title: string;
  /** What is needed, as it was written. */
  text: string;
  change: Change;
  /** Who asked, and by which role. */
  asker: { username: string; role: string };
  /** Whom the default branch gives the role data, as `cdl.yaml` names them. */
  people: Project['roles']['data'];
}

/** The description of an issue that asks for data. Names are shown, nobody is notified by them. */
export function dataIssue({ key, title, text, change, asker, people }: DataRequest): string {
  const description = renderMarkdown({
    key,
    title,
    verdict: 'warn',
    summary: `Asked for by ${asker.username} (${asker.role}).`,
    blocks: [
      { kind: 'text', text },
      {
        kind: 'facts',
        facts: [['for', `data: ${people.join(', ') || 'nobody yet (roles.data in cdl.yaml is empty)'}`]],
      },
    ],
  });
  // The forge's own address, which may be a link: forges show it at both ends.
  return `Asked for in ${change.url}\n\n${description}`;
}
