/** /dev/xen/evtchn: whose ports, what restriction takes away, and when an event is delivered. */
import { beforeEach, describe, expect, it } from 'vitest';
import { encode, type Layout } from '../../../dist/abi/layout.js';
import * as abi from '../../../dist/abi/linux/evtchn.js';
import { XenError } from '../../../dist/boundary/xen-error.js';
import { EvtchnFile, type PortOwners } from '../../../dist/dom0/evtchn.js';
import { FakeHypercalls } from '../../support/fake-hypercalls.js';
import { answerOf, FakeProcess, KERNEL } from '../../support/fake-process.js';

const A = 1;
const B = 2;

let xen: FakeHypercalls;
let process: FakeProcess;
let owners: PortOwners;
let delivered: number[];
let file: EvtchnFile;

beforeEach(() => {
  xen = new FakeHypercalls();
  process = new FakeProcess();
  owners = new Map();
  delivered = [];
  file = open();
});

function open(maxPorts = 100): EvtchnFile {
  return new EvtchnFile(xen.events, owners, (port) => delivered.push(port), maxPorts);
}

function call<T>(cmd: number, layout: Layout<T>, value: T, on = file): string {
  const arg = process.placeStruct(layout, value);
  return answerOf(() => on.ioctl(cmd, arg, process));
}

const bindVirq = (virq: number, on = file) =>
  call(abi.IOCTL_EVTCHN_BIND_VIRQ, abi.ioctl_evtchn_bind_virq, { virq }, on);
const bindInterdomain = (remote_domain: number, remote_port: number, on = file) =>
  call(abi.IOCTL_EVTCHN_BIND_INTERDOMAIN, abi.ioctl_evtchn_bind_interdomain, { remote_domain, remote_port }, on);
const bindUnbound = (remote_domain: number, on = file) =>
  call(abi.IOCTL_EVTCHN_BIND_UNBOUND_PORT, abi.ioctl_evtchn_bind_unbound_port, { remote_domain }, on);
const unbind = (port: number, on = file) => call(abi.IOCTL_EVTCHN_UNBIND, abi.ioctl_evtchn_unbind, { port }, on);
const notify = (port: number, on = file) => call(abi.IOCTL_EVTCHN_NOTIFY, abi.ioctl_evtchn_notify, { port }, on);
const restrict = (domid: number, on = file) =>
  call(abi.IOCTL_EVTCHN_RESTRICT_DOMID, abi.ioctl_evtchn_restrict_domid, { domid }, on);
const ports = (...values: number[]) => new Uint8Array(new Uint32Array(values).buffer);

/** What the hypervisor was asked since the last time. */
function asked(): string[] {
  return xen.events.log.splice(0);
}

describe('ioctls', () => {
  it.each([
    ['an unknown one', 0x4507],
    ['privcmd’s', 0x105005],
    ['one with another size', abi.IOCTL_EVTCHN_NOTIFY + 0x10000],
  ])('%s is ENOSYS', (_name, cmd) => {
    expect(answerOf(() => file.ioctl(cmd, process.allocate(64), process))).toBe('ENOSYS');
  });

  it.each([
    ['BIND_VIRQ', abi.IOCTL_EVTCHN_BIND_VIRQ],
    ['BIND_INTERDOMAIN', abi.IOCTL_EVTCHN_BIND_INTERDOMAIN],
    ['BIND_UNBOUND_PORT', abi.IOCTL_EVTCHN_BIND_UNBOUND_PORT],
    ['UNBIND', abi.IOCTL_EVTCHN_UNBIND],
    ['NOTIFY', abi.IOCTL_EVTCHN_NOTIFY],
    ['RESTRICT_DOMID', abi.IOCTL_EVTCHN_RESTRICT_DOMID],
  ])('%s outside the process’s memory is EFAULT', (_name, cmd) => {
    for (const arg of [0, KERNEL, process.allocate(4096) + 4095]) {
      expect(answerOf(() => file.ioctl(cmd, arg, process))).toBe('EFAULT');
    }
    expect(asked()).toEqual([]);
    expect(file.restrictedTo).toBeUndefined();
  });

  it('RESET takes no argument', () => expect(answerOf(() => file.ioctl(abi.IOCTL_EVTCHN_RESET, 0, process))).toBe('0'));
});

describe('binding', () => {
  it('gives the file its port, and only then lets events through', () => {
    expect(bindInterdomain(A, 42)).toBe('7');
    expect(bindUnbound(B)).toBe('8');
    expect(bindVirq(4)).toBe('9');
    const bound = ['bindInterdomain 1 42', 'unmask 7', 'allocUnbound 2', 'unmask 8', 'bindVirq 4', 'unmask 9'];
    expect(asked()).toEqual(bound);
    expect([6, 7, 8, 9, 10].filter((port) => file.owns(port))).toEqual([7, 8, 9]);
    for (const port of [7, 8, 9]) expect(owners.get(port)).toBe(file);
  });

  it('delivers an event that waited for it', () => {
    xen.events.onUnmask = (port) => owners.get(port)?.upcall(port);
    expect(bindInterdomain(A, 42)).toBe('7');
    expect(delivered).toEqual([7]);
  });

  it.each(['ESRCH', 'EINVAL', 'EEXIST', 'ENOSPC'] as const)(
    'passes the hypervisor’s %s on and owns nothing',
    (code) => {
      xen.events.failure = new XenError(code, 'as a test has it');
      for (const answer of [bindInterdomain(A, 1), bindUnbound(A), bindVirq(3)]) expect(answer).toBe(code);
      expect(asked()).toEqual([]);
      expect(owners.size).toBe(0);
    },
  );

  it('stops at the most ports a file may own, without asking', () => {
    const small = open(2);
    expect([bindUnbound(A, small), bindUnbound(A, small), bindUnbound(A, small)]).toEqual(['7', '8', 'ENOSPC']);
    expect(bindVirq(4, small)).toBe('ENOSPC');
    expect(asked().filter((line) => !line.startsWith('unmask'))).toHaveLength(2);
    expect(unbind(7, small)).toBe('0');
    expect(bindUnbound(A, small)).toBe('9');
  });
});

describe('ports of other files', () => {
  it('cannot be notified, unbound or unmasked', () => {
    expect(bindUnbound(A)).toBe('7');
    asked();
    const other = open();
    expect(notify(7, other)).toBe('ENOTCONN');
    expect(unbind(7, other)).toBe('ENOTCONN');
    owners.get(7)?.upcall(7);
    asked();
    expect(other.write(ports(7))).toBe(4);
    expect(asked()).toEqual([]);
    expect(file.owns(7)).toBe(true);
  });

  it.each([
    [0, 'ENOTCONN', 'ENOTCONN'],
    [12345, 'ENOTCONN', 'ENOTCONN'],
    [131071, 'ENOTCONN', 'ENOTCONN'],
    [131072, 'EINVAL', 'ENOTCONN'],
    [0xffffffff, 'EINVAL', 'ENOTCONN'],
  ])('UNBIND and NOTIFY of port %i, which nobody owns: %s and %s', (port, unbound, notified) => {
    expect([unbind(port), notify(port)]).toEqual([unbound, notified]);
    expect(asked()).toEqual([]);
  });
});

describe('RESTRICT_DOMID', () => {
  it.each([
    [A, '0'],
    [999, '0'],
    [0x7fef, '0'],
    [0, 'EINVAL'],
    [0x7ff0, 'EINVAL'],
    [0x7ff4, 'EINVAL'],
    [0xffff, 'EINVAL'],
  ])('to %i: %s', (domid, answer) => {
    expect(restrict(domid)).toBe(answer);
    expect(file.restrictedTo).toBe(answer === '0' ? domid : undefined);
  });

  it('cannot be repeated, changed or taken back, nor probed with a bad argument', () => {
    expect(restrict(A)).toBe('0');
    for (const domid of [A, B, 0, 0x7ff4]) expect(restrict(domid)).toBe('EACCES');
    expect(answerOf(() => file.ioctl(abi.IOCTL_EVTCHN_RESTRICT_DOMID, 0, process))).toBe('EACCES');
    expect(file.restrictedTo).toBe(A);
  });

  it('leaves binding to the domain’s ports and the file’s own ports', () => {
    expect(bindUnbound(B)).toBe('7');
    expect(restrict(A)).toBe('0');
    expect(bindInterdomain(A, 42)).toBe('8');
    expect(bindInterdomain(B, 42)).toBe('EACCES');
    expect(bindInterdomain(0x10000 + A, 42)).toBe('EACCES'); // the argument is 32 bits wide, a domid is 16
    expect(bindUnbound(B)).toBe('EACCES');
    expect(bindUnbound(A)).toBe('EACCES');
    expect(bindVirq(4)).toBe('EACCES');
    expect(answerOf(() => file.ioctl(abi.IOCTL_EVTCHN_BIND_VIRQ, 0, process))).toBe('EACCES');
    expect(answerOf(() => file.ioctl(abi.IOCTL_EVTCHN_BIND_INTERDOMAIN, 0, process))).toBe('EFAULT');
    expect([notify(7), unbind(7), notify(8)]).toEqual(['0', '0', '0']);
    expect(asked()).toEqual([
      'allocUnbound 2',
      'unmask 7',
      'bindInterdomain 1 42',
      'unmask 8',
      'send 7',
      'close 7',
      'send 8',
    ]);
  });

  it('concerns one open file', () => {
    expect(restrict(A)).toBe('0');
    expect(bindVirq(4, open())).toBe('7');
  });
});

describe('events', () => {
  beforeEach(() => {
    expect(bindUnbound(A)).toBe('7');
    expect(bindUnbound(A)).toBe('8');
    asked();
  });

  it('are taken and delivered, and wait until the process writes the port', () => {
    file.upcall(7);
    expect(delivered).toEqual([7]);
    expect(asked()).toEqual(['acknowledge 7']);
    expect(file.write(ports(7))).toBe(4);
    expect(asked()).toEqual(['unmask 7']);
  });

  it('that came meanwhile come at once', () => {
    file.upcall(7);
    xen.events.onUnmask = (port) => {
      xen.events.onUnmask = undefined;
      file.upcall(port);
    };
    file.write(ports(7));
    expect(delivered).toEqual([7, 7]);
    asked();
    file.write(ports(7));
    expect(asked()).toEqual(['unmask 7']);
  });

  it('of a port that is enabled already are not unmasked again', () => {
    expect(file.write(ports(7))).toBe(4);
    file.upcall(7);
    file.write(ports(7, 7));
    expect(asked()).toEqual(['acknowledge 7', 'unmask 7']);
  });

  it('of ports the file does not own are nobody’s', () => {
    file.upcall(9);
    expect(file.write(ports(9, 0, 0xffffffff))).toBe(12);
    expect([delivered, asked()]).toEqual([[], []]);
  });

  it.each([
    [0, 0],
    [3, 0],
    [4, 4],
    [7, 4],
    [8, 8],
    [4096, 4096],
    [4100, 4096],
    [9999, 4096],
  ])('a write of %i bytes takes %i', (length, taken) => {
    expect(file.write(new Uint8Array(length))).toBe(taken);
  });

  it('written in the middle of a buffer are read from there', () => {
    file.upcall(8);
    const buffer = new Uint8Array(12);
    buffer.set(ports(8), 5);
    expect(file.write(buffer.subarray(5, 9))).toBe(4);
    expect(asked()).toEqual(['acknowledge 8', 'unmask 8']);
  });

  it('end with UNBIND', () => {
    expect(unbind(7)).toBe('0');
    expect(unbind(7)).toBe('ENOTCONN');
    file.upcall(7);
    file.write(ports(7));
    expect(notify(7)).toBe('ENOTCONN');
    expect(asked()).toEqual(['close 7']);
    expect([delivered, owners.has(7), file.owns(8)]).toEqual([[], false, true]);
  });

  it('end with the file, whose ports are all closed, and nobody else’s', () => {
    const other = open();
    expect(bindUnbound(A, other)).toBe('9');
    asked();
    file.release();
    expect(asked()).toEqual(['close 7', 'close 8']);
    expect([...owners.keys()]).toEqual([9]);
    file.upcall(7);
    file.release();
    expect([delivered, asked()]).toEqual([[], []]);
  });
});

it('decides on one reading of its argument', () => {
  restrict(A);
  const arg = process.placeStruct(abi.ioctl_evtchn_bind_interdomain, { remote_domain: A, remote_port: 5 });
  process.memory.afterAccess = () => {
    process.memory.poke(arg, encode(abi.ioctl_evtchn_bind_interdomain, { remote_domain: B, remote_port: 6 }));
  };
  expect(answerOf(() => file.ioctl(abi.IOCTL_EVTCHN_BIND_INTERDOMAIN, arg, process))).toBe('7');
  expect(asked()).toEqual(['bindInterdomain 1 5', 'unmask 7']);
});
