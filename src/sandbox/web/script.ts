/**
 * The only program of the pages. It listens to the page's event stream (and looks every ten seconds, because some changes,
 * as commit statuses, are no events), fetches the page again and replaces the parts that came out different, so that
 * scroll position, selection and opened details stay; it tells times as "3 min ago", and appends to a job's log.
 */
export const script = `
(() => {
  const $ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return s + 's';
    if (s < 3600) return Math.floor(s / 60) + 'm ' + String(s % 60).padStart(2, '0') + 's';
    return Math.floor(s / 3600) + 'h ' + String(Math.floor((s % 3600) / 60)).padStart(2, '0') + 'm';
  };
  const ago = (seconds) =>
    seconds < 10 ? 'just now' : seconds < 60 ? Math.floor(seconds) + ' s ago'
    : seconds < 3600 ? Math.floor(seconds / 60) + ' min ago'
    : seconds < 86400 ? Math.floor(seconds / 3600) + ' h ago' : Math.floor(seconds / 86400) + ' d ago';
  const tick = () => {
    const now = Date.now();
    for (const node of $('time[datetime]')) {
      const at = new Date(node.dateTime);
      node.title ||= at.toLocaleString();
      const text = ago((now - at) / 1000);
      if (node.textContent !== text) node.textContent = text;
    }
    for (const node of $('[data-since]')) node.textContent = span((now - new Date(node.dataset.since)) / 1000);
  };
  const parts = (root) => new Map($('[data-part]', root).map((node) => [node.dataset.part, node]));
  let known = new Map([...parts(document)].map(([key, node]) => [key, node.outerHTML]));
  const keep = (from, to) => {
    const before = $('details', from);
    $('details', to).forEach((node, index) => {
      const old = before.find((other) => node.dataset.key && other.dataset.key === node.dataset.key) ?? before[index];
      if (old) node.open = old.open;
    });
  };
  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { 'x-live': '1' }, cache: 'no-store' });
    if (!answer.ok) return;
    const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = parts(next);
    const here = parts(document);
    const texts = new Map([...fresh].map(([key, node]) => [key, node.outerHTML]));
    if ([...fresh.keys()].join() !== [...here.keys()].join()) {
      const main = document.querySelector('main');
      const y = scrollY;
      keep(main, next.querySelector('main'));
      main.replaceWith(next.querySelector('main'));
      scrollTo(0, y);
    } else {
      for (const [key, node] of fresh) {
        if (texts.get(key) === known.get(key)) continue;
        const old = here.get(key);
        keep(old, node);
        const lefts = $('.scroll', old).map((box) => box.scrollLeft);
        old.replaceWith(node);
        $('.scroll', node).forEach((box, index) => { box.scrollLeft = lefts[index] ?? 0; });
      }
    }
    known = texts;
    document.title = next.title;
    tick();
  };
  let timer = null, busy = false, again = false;
  const soon = () => {
    if (busy) { again = true; return; }
    timer ??= setTimeout(async () => {
      timer = null; busy = true; again = false;
      await refresh().catch(() => {});
      busy = false;
      if (again) soon();
    }, 400);
  };
  const log = document.querySelector('[data-log]');
  let reading = false, more = false;
  const read = async () => {
    if (reading) { more = true; return; }
    reading = true;
    do {
      more = false;
      const address = log.dataset.log + '?from=' + log.dataset.from + '&style=' + encodeURIComponent(log.dataset.style);
      const chunk = await fetch(address, { cache: 'no-store' }).then((answer) => answer.json()).catch(() => null);
      if (!chunk) break;
      const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
      log.insertAdjacentHTML('beforeend', chunk.html);
      log.dataset.from = chunk.from;
      log.dataset.style = chunk.style;
      if (end && chunk.html) scrollTo(0, document.documentElement.scrollHeight);
      if (chunk.more) more = true;
    } while (more);
    reading = false;
  };
  const dot = document.querySelector('.live');
  const listen = () => {
    const events = new EventSource(document.body.dataset.events);
    let lost = false;
    events.onopen = () => { dot.dataset.state = 'on'; if (lost) { soon(); if (log) read(); } lost = false; };
    events.onerror = () => { dot.dataset.state = 'off'; lost = true; };
    events.onmessage = (event) => {
      const [kind, id] = event.data.split(' ');
      if (log && id === log.dataset.job) read();
      if (kind !== 'trace') soon();
    };
  };
  tick();
  setInterval(tick, 1000);
  setInterval(() => { if (!document.hidden) soon(); }, 10000);
  listen();
})();
`;
