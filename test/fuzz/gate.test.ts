/** That the gate's fuzzer gets everywhere, and that it finds a gate that has been broken. */
import { afterEach, describe, expect, it, vi } from 'vitest';

import { BoundPolicy, type Decision } from '../../dist/xenstore/gate/bound-policy.js';
import { Gate } from '../../dist/xenstore/gate/gate.js';
import { PatternTree } from '../../dist/xenstore/gate/pattern-tree.js';
import { GateSession } from '../../dist/xenstore/gate/session.js';
import { WatchTable } from '../../dist/xenstore/gate/watch-table.js';
import { fuzzGate } from './gate-fuzzer.js';

const SEED = 20161110;
const LIMIT_MS = 60_000;

/** Decisions that differ from the policy's. */
function decideOtherwise(change: (decision: Decision) => Partial<Decision>): void {
  const { decide } = BoundPolicy.prototype;
  vi.spyOn(BoundPolicy.prototype, 'decide').mockImplementation(function (this: BoundPolicy, path) {
    const decision = decide.call(this, path);
    return { ...decision, ...change(decision) };
  });
}

describe("the gate's fuzzer", () => {
  afterEach(() => vi.restoreAllMocks());

  it(
    'gets everywhere',
    () => {
      const sum: Record<string, number> = {};
      fuzzGate(SEED, 100, undefined, (gate) => {
        const { denials, ...counts } = gate.counts();
        for (const [key, n] of Object.entries({ ...counts, ...denials })) sum[key] = (sum[key] ?? 0) + n;
      });
      const wanted = ['granted', 'denied', 'malformed', 'events', 'hidden', 'lost', 'parent', 'nodes', 'permissions'];
      const missing = [...wanted, 'operation', 'domain', 'special', 'remove'].filter((key) => !sum[key]);
      expect(missing).toEqual([]);
    },
    LIMIT_MS,
  );

  const BREAKS: [string, () => void, RegExp][] = [
    ['grants everything', () => decideOtherwise(() => ({ rights: 127 })), /went upstream without|was made|was written/],
    ['looks at nothing before it makes a node', () => decideOtherwise(() => ({ guard: 0 })), /was made/],
    ['lists everything', () => decideOtherwise(() => ({ showsAll: true })), /was listed/],
    [
      'lets out events of what nobody may know of',
      () => decideOtherwise(({ rights }) => ({ rights: rights === 0 ? 64 : rights })),
      /an event of|went upstream without/,
    ],
    [
      'sets any permissions',
      () => vi.spyOn(BoundPolicy.prototype, 'maySetPerms').mockReturnValue(true),
      /the permissions/,
    ],
    [
      'takes ** for the path itself',
      () => takeDeepForItself(),
      /went upstream without|was made|was removed|secret|listed|event/,
    ],
    ['forgets watches at the end', () => vi.spyOn(WatchTable.prototype, 'size', 'get').mockReturnValue(0), /are left/],
    ['loses an answer', () => loseDenials(), /an answer to|no answer to/],
  ];

  it.each(BREAKS)(
    'finds a gate that %s',
    (_, spoil, found) => {
      spoil();
      expect(() => fuzzGate(SEED, 300)).toThrow(found);
    },
    LIMIT_MS,
  );
});

function takeDeepForItself(): void {
  const { add } = PatternTree.prototype;
  vi.spyOn(PatternTree.prototype, 'add').mockImplementation(function (this: PatternTree, pattern, rights) {
    add.call(this, pattern, rights);
    if (pattern.endsWith('/**')) add.call(this, pattern.slice(0, -3) || '/', rights);
  });
}

/** Denials are counted and not answered. */
function loseDenials(): void {
  const { deny } = Gate.prototype;
  vi.spyOn(GateSession.prototype, 'deny').mockImplementation(function (this: GateSession, _, code, name, path, reason) {
    deny.call(this.gate, this, 'lost', code, name, path, reason);
  });
}
