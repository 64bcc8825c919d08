/** The audit: the product stops every attack, every attack succeeds somewhere, and a seed is the whole of a run. */
import { describe, expect, test } from 'vitest';
import {
  ATTACKS,
  attack,
  BROKEN_FORMS,
  PROPOSALS,
  type Proposal,
  proposal,
  runAttack,
} from '../../../dist/schemes/index.js';

const SEED = 7;

function named(id: string): Proposal {
  const found = proposal(id);
  if (!found) throw new Error(`no proposal ${id}`);
  return found;
}

const product = PROPOSALS.find((one) => one.product) as Proposal;

function isStopped(id: string, attackId: string, seed = SEED): boolean {
  return runAttack(named(id), attack(attackId)!, seed).blocked;
}

test('there are eight proposals, one of them in two forms, and one product', () => {
  expect(PROPOSALS.map(({ id }) => id)).toEqual([
    'pass-through',
    'op-aware',
    'approved-ranges',
    'special-area',
    'physical-buffers',
    'ioctl-ranges',
    'restriction-array',
    'array-minuted',
    'array-shipped',
  ]);
  expect(PROPOSALS.filter((one) => one.product)).toEqual([product]);
});

test('attacks are many, and each has a name of its own, an origin and something it would break', () => {
  expect(ATTACKS.length).toBeGreaterThanOrEqual(40);
  expect(new Set(ATTACKS.map(({ id }) => id)).size).toBe(ATTACKS.length);
  for (const { origin, breaks } of ATTACKS) {
    expect(origin).not.toBe('');
    expect(breaks.length).toBeGreaterThan(0);
  }
});

describe('the product stops', () => {
  test.each(ATTACKS.map(({ id }) => id))('%s', (id) => {
    for (const seed of [1, 2, 0xffffffff]) {
      const { blocked, reason } = runAttack(product, attack(id)!, seed);
      expect(blocked, reason).toBe(true);
    }
  });
});

describe('succeeds against a proposal or a broken form, and breaks what it is said to', () => {
  const candidates = [...PROPOSALS, ...BROKEN_FORMS];
  test.each(ATTACKS.map(({ id }) => id))('%s', (id) => {
    const one = attack(id)!;
    const success = candidates.find((candidate) => {
      const { blocked, run } = runAttack(candidate, one, SEED);
      return !blocked && run.breaches.some(({ invariant }) => one.breaks.includes(invariant));
    });
    expect(success).toBeDefined();
  });
});

describe('is wrong in a way that shows: an attack passes that its sound form stops', () => {
  test.each(BROKEN_FORMS.map(({ id }) => id))('%s', (id) => {
    const broken = named(id);
    const sound = named(broken.brokenFormOf as string);
    const shown = ATTACKS.find((one) => !runAttack(broken, one, SEED).blocked && runAttack(sound, one, SEED).blocked);
    expect(shown?.id).toBeDefined();
  });
});

describe('the class of an advisory is stopped, and succeeds where its fault is put back', () => {
  test.each([
    ['XSA-166', 'swap-state', 'reads-state-twice', /^no-crash: .*entry 9/],
    ['XSA-197', 'swap-ring-pointer', 'reads-ring-twice', /^state-machine: byte 712 of the page behind/],
    ['XSA-199', 'port-beyond-table', 'port-table', /^no-crash: .*entry 4294975495/],
    ['XSA-478', 'guest-rewrites-request', 'shows-pages', /^state-machine: port 1 was checked, port 65535/],
    ['XSA-180', 'endless-reasons', 'notes-everything', /^bounded: \d+ characters/],
    ['XSA-491', 'list-changes-in-walk', 'walks-live-list', /^state-machine: server 1 .* passed over/],
    ['XSA-482', 'second-open', 'restricts-first-open', /^restriction: /],
  ])('%s: %s against %s', (advisory, attackId, fault, why) => {
    const one = attack(attackId)!;
    expect(one.origin).toContain(advisory);
    for (const { id } of PROPOSALS.slice(1)) expect(isStopped(id, attackId), id).toBe(true);
    expect(runAttack(named(`array-minuted/${fault}`), one, SEED)).toMatchObject({
      blocked: false,
      reason: expect.stringMatching(why),
    });
  });
});

/** What each proposal lets through that the document explains; the first lets through nearly all. */
const FAILURES: Readonly<Record<string, readonly string[]>> = {
  'op-aware': ['swap-nested', 'grown-operation'],
  'approved-ranges': [
    'clear-flag',
    'unmap-in-call',
    'remap-in-call',
    'stale-unmap',
    'stale-remap',
    'stale-fork',
    'stale-exec',
    'other-device-model',
    'careless-operation',
    'many-declarations',
  ],
  'special-area': [
    'kernel-extents',
    'kernel-second-block',
    'kernel-exfiltration',
    'swap-nested',
    'nested-handle',
    'grown-operation',
    'careless-operation',
  ],
  'physical-buffers': ['careless-operation'],
  'ioctl-ranges': [
    'unmap-in-call',
    'remap-in-call',
    'stale-unmap',
    'stale-remap',
    'stale-fork',
    'stale-exec',
    'other-device-model',
    'careless-operation',
  ],
  'restriction-array': ['unmap-in-call', 'remap-in-call', 'careless-operation', 'many-fragments'],
  'array-minuted': ['count-largest'],
};

test.each(Object.entries(FAILURES))('%s lets through these and no others', (id, expected) => {
  const through = ATTACKS.filter((one) => !isStopped(id, one.id)).map((one) => one.id);
  expect(through).toEqual(expected);
});

describe('a seed', () => {
  test.each(['clear-flag', 'swap-nested', 'unmap-in-call'])('reproduces %s to the last detail', (id) => {
    const twice = [1, 2].map(() => runAttack(named('approved-ranges'), attack(id)!, 42));
    expect(twice[0]).toEqual(twice[1]);
  });

  test('decides where things lie', () => {
    const [a, b] = [1, 2].map(
      (seed) => runAttack(named('pass-through'), attack('kernel-bitmap')!, seed).run.hits[0]?.pfn,
    );
    expect(a).not.toBe(b);
  });
});

test('a race is won only with the second thread in the right place', () => {
  const { run } = runAttack(named('approved-ranges'), attack('clear-flag')!, SEED);
  expect(run.schedule).not.toEqual([]);
  const thread = run.interleaving.findIndex((event) => event.includes('second thread'));
  expect(thread).toBeGreaterThan(0);
  expect(run.hits[0]).toMatchObject({ direction: 'write', owner: 'kernel', bytes: 64 });
});
