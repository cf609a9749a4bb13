import { digestJson } from '../../src/index.ts';
import { permit, rulesOf } from './permission.ts';
import { type SendingBack, sendBack, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** Sends a model back to the data: an issue for those who look after it, and a failed status until the model changes. */
export const requestData: Command<Pick<Tools, 'member' | 'roleOf' | 'openIssue'> & SendingBack> = {
  name: 'request-data',
  usage: '/request-data "what" [--model name]',
  summary: 'Open an issue for the data role, and send this change back to the data until it changes.',
  examples: ['/request-data "more shoes with laces, 200 at least"'],
  role: 'approver-or-data',
  holds: 0,
  async handle(call, tools) {
    const what = call.args.join(' ').trim().slice(0, 1000);
    if (what === '') {
      return {
        emoji: 'confused',
        text: 'Please say what is needed:\n\n```\n/request-data "more shoes with laces, 200 at least"\n```',
      };
    }
    if (call.change.state !== 'open') return { emoji: 'confused', text: 'This change is not open any more.' };
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const permission = await permit(call, tools, ['data']);
    if ('refused' in permission) return permission.refused;
    const { facts } = subject;
    const issue = await tools.openIssue(`data:${call.change.id}:${digestJson(what).slice(7, 19)}`, {
      title: `Data for ${facts.model}`,
      text: what,
      change: call.change,
      asker: { username: permission.person.username, role: permission.role },
      people: rulesOf(call)?.roles.data ?? [],
      labels: ['cdl', 'data'],
    });
    await sendBack(call, [subject], tools, { step: 'data', reason: what, person: permission.person });
    return {
      emoji: 'thumbsup',
      text: `Opened ${issue.url} for the data role. The status of **${facts.model}** is failed until it changes.`,
      converge: true,
    };
  },
};
