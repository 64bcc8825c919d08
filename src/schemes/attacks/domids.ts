/** Other domains, and ways out of the restriction to one. */
import { XEN_DMOP_create_ioreq_server, XEN_DMOP_remote_shutdown } from '../../abi/xen/dm-op.js';
import { DOMID_INVALID, HYPERVISOR } from '../../abi/xen/xen.js';
import { type Attack, words } from './attack.js';

const shutdown = (domid: number) => ({ domid, op: XEN_DMOP_remote_shutdown, payload: words(3) });

export const DOMID_ATTACKS: readonly Attack[] = [
  {
    id: 'other-domid',
    name: 'An operation on another domain',
    group: 'domids and restriction',
    breaks: ['domain-isolation'],
    origin: 'class: confused deputy',
    run: (lab) => void lab.call(shutdown(lab.world.theirs.domid)),
  },
  {
    id: 'domid-sweep',
    name: 'Every special domid, dom0’s own, none’s, and then another domain’s',
    group: 'domids and restriction',
    breaks: ['domain-isolation'],
    origin: 'real Xen: raw dm_op rows with DOMID_SELF, IO, COW, INVALID, IDLE',
    run(lab) {
      for (const domid of [0, 999, 0x7ff0, 0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7fff, 0xffff]) {
        lab.call({ domid, op: XEN_DMOP_create_ioreq_server });
      }
      lab.call({ domid: lab.world.theirs.domid, op: XEN_DMOP_create_ioreq_server });
    },
  },
  {
    id: 'reused-domid',
    name: 'The domain goes and its domid is the next domain’s',
    group: 'domids and restriction',
    breaks: ['domain-isolation'],
    origin: 'XSA-322, 417, 483: what a dead domain had is its successor’s',
    run(lab) {
      const { domid } = lab.world.mine;
      const next = lab.replaceDomain();
      const { ret } = lab.call({ domid, op: XEN_DMOP_create_ioreq_server });
      if (ret === 0)
        lab.world.breach('domain-isolation', `a file restricted to a dead domain reaches the new domain ${next}`);
    },
  },
  {
    id: 'restrict-again',
    name: 'RESTRICT again, to nobody and to another domain',
    group: 'domids and restriction',
    breaks: ['restriction', 'domain-isolation'],
    origin: 'real Xen: RESTRICT(B) after A is EINVAL',
    run(lab) {
      lab.note('RESTRICT(DOMID_INVALID), RESTRICT(other domain)');
      lab.look(lab.session.restrict(DOMID_INVALID));
      lab.look(lab.session.restrict(lab.world.theirs.domid));
      lab.call(shutdown(lab.world.theirs.domid));
    },
  },
  {
    id: 'plain-hypercall',
    name: 'A plain hypercall, with addresses as arguments, on a restricted file',
    group: 'domids and restriction',
    breaks: ['restriction'],
    origin: 'XSA-482: privcmd used against the kernel’s own lockdown',
    run(lab) {
      lab.note('xen_version(XENVER_version) by IOCTL_PRIVCMD_HYPERCALL');
      lab.look(lab.session.hypercall(HYPERVISOR.xen_version, [0n]));
    },
  },
  {
    id: 'forked-file',
    name: 'A forked child uses the restricted file for another domain',
    group: 'domids and restriction',
    breaks: ['restriction', 'domain-isolation'],
    origin: 'class: a restriction that belongs to the process and not to the file',
    run(lab) {
      const child = lab.world.process(102, 'attacker');
      lab.note('forks; the child calls');
      lab.look(lab.session.inherit(child).prepare(shutdown(lab.world.theirs.domid)).go());
    },
  },
  {
    id: 'second-open',
    name: 'The device model opens privcmd a second time, and uses that file for another domain',
    group: 'domids and restriction',
    breaks: ['restriction', 'domain-isolation'],
    origin: 'XSA-482: every open has to be restricted, not the first',
    run(lab) {
      const { world } = lab;
      const second = lab.proposal.open(world, lab.process);
      lab.note(`opens privcmd again; that file is restricted to domain ${lab.mine} too`);
      lab.look(second.restrict(lab.mine));
      lab.look(second.prepare(shutdown(world.theirs.domid)).go());
      lab.look(second.hypercall(HYPERVISOR.xen_version, [0n]));
    },
  },
];
