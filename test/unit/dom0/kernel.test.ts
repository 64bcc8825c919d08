/** dom0's devices by name, to whom events go, and the two devices that do little: gntdev and hypercall. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  IOCTL_EVTCHN_RESTRICT_DOMID,
  ioctl_evtchn_bind_unbound_port,
} from '../../../dist/abi/linux/evtchn.js';
import {
  IOCTL_GNTDEV_GRANT_COPY,
  IOCTL_GNTDEV_SET_MAX_GRANTS,
  ioctl_gntdev_grant_copy,
} from '../../../dist/abi/linux/gntdev.js';
import { IOCTL_PRIVCMD_DM_OP, IOCTL_PRIVCMD_RESTRICT } from '../../../dist/abi/linux/privcmd.js';
import { DEVICE_SUPPORT, Dom0Kernel } from '../../../dist/dom0/kernel.js';
import { X86_64 } from '../../../dist/dom0/process.js';
import { verdictOf } from '../../support/dm-op.js';
import { FakeHypercalls } from '../../support/fake-hypercalls.js';
import { answerOf, FakeProcess, KERNEL } from '../../support/fake-process.js';

let xen: FakeHypercalls;
let process: FakeProcess;
let kernel: Dom0Kernel;

beforeEach(() => {
  xen = new FakeHypercalls();
  process = new FakeProcess();
  kernel = new Dom0Kernel(xen, X86_64, 2);
});

function openEvtchn() {
  const delivered: number[] = [];
  const file = kernel.open('evtchn', (port) => delivered.push(port));
  const bind = () => {
    const arg = process.placeStruct(ioctl_evtchn_bind_unbound_port, { remote_domain: 1 });
    return answerOf(() => file.ioctl(IOCTL_EVTCHN_BIND_UNBOUND_PORT, arg, process));
  };
  return { file, delivered, bind };
}

describe('devices', () => {
  it.each(['privcmd', 'evtchn', 'hypercall', 'gntdev'])('%s opens, as the support matrix says', (name) => {
    expect(kernel.open(name, () => {}).device).toBe(name);
    expect(DEVICE_SUPPORT.map((row) => row.name)).toContain(name);
  });

  it.each(['', 'nothing', 'privcmd\0', 'PRIVCMD', '../privcmd', '__proto__', 'constructor'])('%j is ENOENT', (name) => {
    expect(verdictOf(() => kernel.open(name, () => {}))).toBe('ENOENT');
  });

  it('in the support matrix all open', () => {
    // xenbus has an interface of its own
    for (const { name } of DEVICE_SUPPORT) {
      if (name !== 'xenbus') expect(kernel.open(name, () => {}).device).toBe(name);
    }
  });

  it('each open makes a file of its own', () => {
    const [one, two] = [kernel.open('privcmd', () => {}), kernel.open('privcmd', () => {})];
    const arg = process.place(Uint8Array.of(5, 0));
    expect(answerOf(() => one.ioctl(IOCTL_PRIVCMD_RESTRICT, arg, process))).toBe('0');
    expect([one.restrictedTo, two.restrictedTo]).toEqual([5, undefined]);
  });
});

describe('events', () => {
  it('go to the file that owns the port', () => {
    const [one, two] = [openEvtchn(), openEvtchn()];
    expect([one.bind(), two.bind()]).toEqual(['7', '8']);
    kernel.upcall(8);
    kernel.upcall(7);
    kernel.upcall(9);
    expect([one.delivered, two.delivered]).toEqual([[7], [8]]);
  });

  it('of a file that is gone go nowhere', () => {
    const one = openEvtchn();
    one.bind();
    one.file.release();
    kernel.upcall(7);
    expect(one.delivered).toEqual([]);
    expect(xen.events.log).not.toContain('acknowledge 7');
  });

  it('go to the new owner of a port that is used again', () => {
    const [one, two] = [openEvtchn(), openEvtchn()];
    one.bind();
    one.file.release();
    xen.events.nextPort = 7;
    expect(two.bind()).toBe('7');
    kernel.upcall(7);
    expect([one.delivered, two.delivered]).toEqual([[], [7]]);
  });

  it('a file owns a bounded number of ports', () => {
    const { bind } = openEvtchn();
    expect([bind(), bind(), bind(), openEvtchn().bind()]).toEqual(['7', '8', 'ENOSPC', '9']);
  });
});

describe('gntdev', () => {
  const ioctl = (cmd: number, arg: number) => {
    const file = kernel.open('gntdev', () => {});
    return answerOf(() => file.ioctl(cmd, arg, process));
  };
  const copy = (count: number, segments = 0) => process.placeStruct(ioctl_gntdev_grant_copy, { count, segments });

  it('answers what a device model probes with', () => {
    expect(ioctl(IOCTL_GNTDEV_GRANT_COPY, copy(0))).toBe('0');
    expect(ioctl(IOCTL_GNTDEV_SET_MAX_GRANTS, process.allocate(4))).toBe('0');
  });

  it.each([
    ['its argument at NULL', () => 0, /^EFAULT$/],
    ['its argument in the kernel half', () => KERNEL, /^EFAULT$/],
    ['a grant to copy', () => copy(1), /^E(OPNOTSUPP|FAULT)$/],
    ['2^32-1 grants to copy', () => copy(0xffffffff, KERNEL), /^E(OPNOTSUPP|FAULT|INVAL)$/],
  ])('GRANT_COPY with %s fails', (_name, arg, answer) => expect(ioctl(IOCTL_GNTDEV_GRANT_COPY, arg())).toMatch(answer));

  it('knows no other device’s ioctls', () => {
    expect(ioctl(IOCTL_PRIVCMD_DM_OP, copy(0))).toBe('ENOTTY');
    expect(ioctl(0, 0)).toBe('ENOTTY');
  });

  it('takes no data and asks nothing of the hypervisor', () => {
    const file = kernel.open('gntdev', () => {});
    expect(answerOf(() => file.write(new Uint8Array(4)))).toBe('EINVAL');
    file.release();
    expect(xen.nrCalls).toBe(0);
  });
});

describe('hypercall', () => {
  it.each([0, IOCTL_PRIVCMD_DM_OP, IOCTL_PRIVCMD_RESTRICT, IOCTL_EVTCHN_RESTRICT_DOMID])('has no ioctl %i', (cmd) => {
    const file = kernel.open('hypercall', () => {});
    expect(answerOf(() => file.ioctl(cmd, process.allocate(64), process))).toBe('ENOTTY');
    expect(file.restrictedTo).toBeUndefined();
  });

  it('takes no data', () => {
    const file = kernel.open('hypercall', () => {});
    expect(answerOf(() => file.write(new Uint8Array(4)))).toBe('EINVAL');
    file.release();
    expect(xen.nrCalls).toBe(0);
  });
});
