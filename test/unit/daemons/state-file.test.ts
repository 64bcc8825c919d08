// What a daemon leaves on the disk, looked at after every step it takes: each is enough for the next one.
import { cpSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Journal } from '../../../dist/daemons/xenstored/journal.js';
import { StateFile } from '../../../dist/daemons/xenstored/state-file.js';
import type { Reactor } from '../../../dist/host/reactor.js';
import { Restorer } from '../../../dist/xenstore/migration/restore.js';
import { World } from '../xenstore/harness.js';

let folder: string;
let copies = 0;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-state-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A daemon's store and journal in one directory; `work` is what it would do between rounds. */
class Keeper {
  readonly world = new World();
  readonly files: StateFile;
  work: (() => boolean)[] = [];
  readonly journal: Journal;

  constructor(readonly home: string) {
    this.files = new StateFile(join(home, 'state'));
    const loaded = load(this.world, this.files);
    const reactor = { queue: (work: () => boolean) => this.work.push(work) } as unknown as Reactor;
    this.journal = new Journal(this.world.server, this.files, reactor, loaded?.journal ?? 0, false);
    this.journal.start(loaded === null);
  }

  /** One slice of one piece of work. */
  slice(): void {
    const next = this.work.shift();
    if (next !== undefined && !next()) this.work.unshift(next);
  }

  write(path: string, value: string): void {
    this.world.tool.ask('WRITE', `${path}|${value}`);
    this.journal.write();
  }
}

function load(world: World, files: StateFile) {
  const restorer = new Restorer(world.server);
  const loaded = files.load(restorer);
  restorer.finish();
  return loaded;
}

/** What the next daemon would have, were the present one killed now. @param change made to its files first */
function next(home: string, change: (path: string) => void = () => {}): World {
  const copy = join(folder, `copy-${copies++}`);
  cpSync(home, copy, { recursive: true });
  change(join(copy, 'state'));
  const world = new World();
  load(world, new StateFile(join(copy, 'state')));
  expect(world.server.check()).toEqual([]);
  return world;
}

function home(): string {
  return mkdtempSync(join(folder, 'home-'));
}

describe('a daemon that is killed after any step', () => {
  it('leaves everything that was acknowledged, while snapshots are written and old files go', () => {
    const keeper = new Keeper(home());
    for (let n = 0; n < 300; n++) keeper.write(`/big/${n}`, 'x'.repeat(1000));
    let snapshots = 0;
    let withOld = 0;
    for (let n = 1; snapshots < 3; n++) {
      keeper.write('/n', `${n}`);
      if (n % 7 === 0) keeper.world.tool.ask('RM', `/big/${n % 300}|`);
      keeper.write(`/big/${n % 97}`, 'y'.repeat(4000));
      const busy = keeper.work.length > 0;
      keeper.slice();
      if (!busy) continue;
      if (existsSync(join(keeper.home, 'state.old'))) withOld++;
      const world = next(keeper.home);
      expect(world.tool.ask('READ', '/n|')).toBe(`${n}`);
      expect(world.tool.ask('DIRECTORY', '/big|').split('|').length).toBe(
        keeper.world.tool.ask('DIRECTORY', '/big|').split('|').length,
      );
      if (keeper.work.length === 0) snapshots++;
    }
    expect(withOld).toBeGreaterThan(0);
    keeper.journal.stop(true);
    expect(readdirSync(keeper.home).sort()).toEqual(['state', expect.stringMatching(/^state\.journal-\d+$/)]);
    expect(next(keeper.home).tool.ask('READ', '/n|')).toBe(keeper.world.tool.ask('READ', '/n|'));
  });

  it('also between the two steps by which a snapshot takes its place', () => {
    const keeper = new Keeper(home());
    keeper.write('/a', '1');
    const world = next(keeper.home, (path) => {
      renameSync(path, `${path}.old`);
      writeFileSync(`${path}.new`, 'half a snap');
    });
    expect(world.tool.ask('READ', '/a|')).toBe('1');
  });

  it('one after the other, before any has finished its snapshot', () => {
    const path = home();
    for (let n = 0; n < 5; n++) {
      const keeper = new Keeper(path);
      expect(keeper.world.tool.ask('READ', '/n|')).toBe(n === 0 ? 'ENOENT' : `${n - 1}`);
      keeper.write('/n', `${n}`);
    }
    expect(readdirSync(path).filter((name) => name.includes('journal')).length).toBe(5);
    expect(next(path).tool.ask('READ', '/n|')).toBe('4');
  });

  it('while it begins a journal: that one is begun anew', () => {
    const keeper = new Keeper(home());
    keeper.write('/a', '1');
    const world = next(keeper.home, (path) => writeFileSync(`${path}.journal-2`, 'psjo'));
    expect(world.tool.ask('READ', '/a|')).toBe('1');
  });
});

describe('files that do not belong together', () => {
  const refused = (change: (path: string) => void): (() => void) => {
    const keeper = new Keeper(home());
    keeper.write('/a', '1');
    return () => void next(keeper.home, change);
  };

  it('are refused: a journal that is missing', () => {
    expect(refused((path) => rmSync(`${path}.journal-1`))).toThrow(/journal-1: it is missing/);
  });

  it('a snapshot that is missing', () => {
    expect(refused((path) => rmSync(path))).toThrow(/journal-1: the snapshot that it follows is missing/);
  });

  it('a journal of another number', () => {
    expect(refused((path) => cpSync(`${path}.journal-1`, `${path}.journal-2`))).toThrow(/it is not the journal 2/);
  });

  it('a snapshot cut off', () => {
    expect(refused((path) => writeFileSync(path, 'xenstore'))).toThrow(/state: the stream has no header/);
  });

  it('but a journal in which nothing is yet, of a first snapshot that was never finished, is not missed', () => {
    const keeper = new Keeper(home());
    const world = next(keeper.home, (path) => {
      rmSync(path);
    });
    expect(world.tool.ask('DIRECTORY', '/|')).toBe('tool|');
  });
});
