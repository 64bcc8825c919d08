/** The loop over descriptors: what is served in a round, timers, and long work beside everything else. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allocateNative, EFD_NONBLOCK, EPOLLIN, EPOLLOUT, libc, SystemError } from '../../../dist/host/libc.js';
import { Reactor } from '../../../dist/host/reactor.js';

const word = allocateNative(4096);
let reactor: Reactor;
let opened: number[];
let log: string[];
let nrWakes: number;

beforeEach(() => {
  nrWakes = 0;
  reactor = new Reactor(() => nrWakes++);
  opened = [];
  log = [];
});
afterEach(() => {
  for (const fd of opened) libc.close(fd);
  reactor.close();
});

/** An eventfd; readable from the start where `count` is not 0. */
function eventfd(count = 0): number {
  const fd = libc.eventfd(count, EFD_NONBLOCK);
  opened.push(fd);
  return fd;
}

function ring(fd: number): void {
  word.view.setBigUint64(0, 1n, true);
  expect(libc.write(fd, word.address, 8)).toBe(8);
}

const drain = (fd: number) => libc.read(fd, word.address + 8, 8);

async function pass(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

describe('descriptors', () => {
  it('are served when they are ready, with the events they are ready for', () => {
    const fd = eventfd();
    const seen: number[] = [];
    reactor.add(fd, EPOLLIN, (events) => seen.push(events));
    reactor.round(0);
    ring(fd);
    reactor.round(0);
    reactor.modify(fd, EPOLLIN | EPOLLOUT);
    reactor.round(0);
    reactor.modify(fd, 0);
    reactor.round(0);
    expect(seen).toEqual([EPOLLIN, EPOLLIN | EPOLLOUT]);
  });

  it('are not served once removed, not even in the round that removes them', () => {
    const fds = [eventfd(1), eventfd(1), eventfd(1)];
    for (const fd of fds) {
      reactor.add(fd, EPOLLIN, () => {
        log.push(String(fd));
        for (const other of fds) if (other !== fd) reactor.remove(other);
      });
    }
    reactor.round(0);
    reactor.round(0);
    expect(log).toHaveLength(2);
    expect(new Set(log).size).toBe(1);
  });

  it('can be removed twice, and added again', () => {
    const fd = eventfd(1);
    reactor.add(fd, EPOLLIN, () => log.push('old'));
    reactor.remove(fd);
    reactor.remove(fd);
    reactor.add(fd, EPOLLIN, () => log.push('new'));
    reactor.round(0);
    expect(log).toEqual(['new']);
  });

  it('keep their handler where adding them again fails', () => {
    const fd = eventfd(1);
    reactor.add(fd, EPOLLIN, () => log.push('first'));
    expect(() => reactor.add(fd, EPOLLIN, () => log.push('second'))).toThrow(SystemError);
    expect(() => reactor.add(-1, EPOLLIN, () => {})).toThrow(SystemError);
    reactor.round(0);
    expect(log).toEqual(['first']);
  });

  it('added as last are served after the others of a round, and once', () => {
    for (const name of ['last', 'a', 'b', 'also last', 'c']) {
      const handler = () => log.push(name);
      if (name.includes('last')) reactor.addLast(eventfd(1), EPOLLIN, handler);
      else reactor.add(eventfd(1), EPOLLIN, handler);
    }
    reactor.round(0);
    expect(log).toEqual(['a', 'b', 'c', 'last', 'also last']);
  });

  it('added as last are so until they are removed', () => {
    const fd = eventfd(1);
    reactor.addLast(fd, EPOLLIN, () => log.push('last'));
    reactor.round(0);
    reactor.remove(fd);
    reactor.round(0);
    reactor.add(fd, EPOLLIN, () => log.push('as others'));
    reactor.add(eventfd(1), EPOLLIN, () => log.push('other'));
    reactor.round(0);
    expect(log).toEqual(['last', 'as others', 'other']);
  });

  it('are all served within a few rounds, however many are always ready', () => {
    const served = new Set<number>();
    for (let i = 0; i < 150; i++) {
      const fd = eventfd(1);
      reactor.add(fd, EPOLLIN, () => served.add(fd));
    }
    for (let i = 0; i < 3; i++) reactor.round(0);
    expect(served.size).toBe(150);
  });
});

describe('long work', () => {
  const work = (name: string, slices: number) => () => {
    log.push(name);
    return --slices <= 0;
  };

  it('gets a slice of each a round, in turns, until it is done', () => {
    reactor.queue(work('a', 3));
    reactor.queue(work('b', 1));
    reactor.queue(work('c', 2));
    for (let i = 0; i < 4; i++) {
      reactor.round(0);
      log.push('|');
    }
    expect(log.join('')).toBe('abc|ac|a||');
  });

  it('never keeps descriptors waiting', () => {
    const fd = eventfd(1);
    reactor.add(fd, EPOLLIN, () => log.push('event'));
    reactor.queue(work('slice', 3));
    for (let i = 0; i < 3; i++) reactor.round(0);
    expect(log).toEqual(['event', 'slice', 'event', 'slice', 'event', 'slice']);
  });

  it('queued by work starts in the next round', () => {
    reactor.queue(() => {
      log.push('outer');
      reactor.queue(work('inner', 1));
      return true;
    });
    reactor.round(0);
    expect(log).toEqual(['outer']);
    reactor.round(0);
    expect(log).toEqual(['outer', 'inner']);
  });

  it('keeps the loop from sleeping', () => {
    reactor.onIdle = () => log.push('idle');
    reactor.queue(work('slice', 2));
    reactor.queue(() => {
      reactor.stop();
      return true;
    });
    reactor.run();
    expect(log).toEqual(['slice']);
  });
});

describe('timers', () => {
  it('run when their time has come, in its order, once', async () => {
    reactor.after(5, () => log.push('5'));
    reactor.after(1, () => log.push('1'));
    reactor.after(1000, () => log.push('1000'));
    reactor.after(3, () => log.push('3'));
    reactor.round(0);
    await pass(10);
    reactor.round(0);
    reactor.round(0);
    expect(log).toEqual(['1', '3', '5']);
  });

  it('can be cancelled, also by one that runs just before and more than once', async () => {
    const cancelFirst = reactor.after(1, () => log.push('cancelled'));
    const cancels: (() => void)[] = [];
    reactor.after(1, () => {
      log.push('kept');
      for (const cancel of cancels) cancel();
    });
    cancels.push(reactor.after(2, () => log.push('cancelled too')));
    cancelFirst();
    cancelFirst();
    await pass(8);
    reactor.round(0);
    expect(log).toEqual(['kept']);
  });

  it('may set others', async () => {
    reactor.after(1, () => void reactor.after(1, () => log.push('second')));
    await pass(4);
    reactor.round(0);
    await pass(4);
    reactor.round(0);
    expect(log).toEqual(['second']);
  });

  it('wake the loop in time', () => {
    const start = performance.now();
    reactor.after(20, () => reactor.stop());
    reactor.run();
    expect(performance.now() - start).toBeGreaterThanOrEqual(19);
  });
});

describe('the loop', () => {
  it('is woken from outside, and sleeps again', () => {
    ring(reactor.wakeFd);
    ring(reactor.wakeFd);
    reactor.round(0);
    reactor.round(0);
    expect(nrWakes).toBe(1);
  });

  it('says before it sleeps, not when it only looks', () => {
    reactor.onIdle = () => log.push('idle');
    reactor.round(0);
    expect(log).toEqual([]);
    reactor.round(1);
    expect(log).toEqual(['idle']);
  });

  it('finishes the round in which it is stopped', () => {
    const [one, two] = [eventfd(1), eventfd(1)];
    for (const fd of [one, two]) {
      reactor.add(fd, EPOLLIN, () => {
        log.push('served');
        drain(fd);
        reactor.stop();
      });
    }
    reactor.run();
    expect(log).toEqual(['served', 'served']);
  });
});
