import { expect, it } from 'vitest';
import { Node, Version } from '../../../dist/xenstore/node.js';
import type { Perms } from '../../../dist/xenstore/permissions.js';
import { Snapshots } from '../../../dist/xenstore/snapshots.js';

/** Versions are told apart by their generation. */
function versionOf(generation: number): Version {
  const node = new Node(0, 8, 2, null, 0, 0, {} as Perms, generation);
  return new Version(node, generation);
}

function collect(snapshots: Snapshots, limit: number): number[] {
  const dropped: number[] = [];
  snapshots.collect(limit, (version) => dropped.push(version.generation));
  return dropped;
}

it('a version stays for as long as any snapshot sees it', () => {
  const snapshots = new Snapshots();
  snapshots.open(10);
  snapshots.open(20);
  snapshots.keep(versionOf(5)); // both see it
  snapshots.keep(versionOf(15)); // the newer one only
  snapshots.close(20);
  expect(collect(snapshots, 100)).toEqual([15]);
  expect(snapshots.kept).toBe(1);
  expect(snapshots.pending).toBe(false);
  snapshots.close(10);
  expect(collect(snapshots, 100)).toEqual([5]);
  expect(snapshots.kept).toBe(0);
});

it('transactions that start at one generation share what is kept', () => {
  const snapshots = new Snapshots();
  for (let i = 0; i < 3; i++) snapshots.open(10);
  snapshots.keep(versionOf(10));
  for (const left of [2, 1]) {
    snapshots.close(10);
    expect([snapshots.count, snapshots.newest, snapshots.pending]).toEqual([left, 10, false]);
  }
  snapshots.close(10);
  expect([snapshots.count, snapshots.newest]).toEqual([0, -1]);
  expect(collect(snapshots, 100)).toEqual([10]);
});

it('an old snapshot between younger ones keeps only what it sees itself', () => {
  const snapshots = new Snapshots();
  for (const generation of [10, 20, 30]) snapshots.open(generation);
  for (const generation of [5, 15, 25]) snapshots.keep(versionOf(generation));
  snapshots.close(20);
  expect(collect(snapshots, 100)).toEqual([]); // all three hang on the newest
  snapshots.close(30);
  expect(collect(snapshots, 100).sort()).toEqual([15, 25]);
  snapshots.close(10);
  expect(collect(snapshots, 100)).toEqual([5]);
});

it('looks at no more than it is asked to, and finds nothing twice', () => {
  const snapshots = new Snapshots();
  snapshots.open(1);
  snapshots.open(1000);
  for (let i = 0; i < 100; i++) snapshots.keep(versionOf(2 + i));
  snapshots.close(1000);
  for (let i = 0; i < 10; i++) expect(collect(snapshots, 10)).toHaveLength(10);
  expect([snapshots.pending, snapshots.kept]).toEqual([false, 0]);
});

it('refuses what would be a bug of its caller', () => {
  const snapshots = new Snapshots();
  expect(() => snapshots.keep(versionOf(1))).toThrow('no snapshot sees');
  expect(() => snapshots.close(1)).toThrow('no snapshot 1 is open');
  snapshots.open(10);
  expect(() => snapshots.keep(versionOf(11))).toThrow('no snapshot sees');
  expect(() => snapshots.close(11)).toThrow('no snapshot 11 is open');
});
