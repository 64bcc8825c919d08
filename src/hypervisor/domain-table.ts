/**
 * The domains there are, and which domid comes next. Looking one up costs the same however many there are.
 *
 * A domid comes round again only after all others have, and what a domain before it has left behind (an unbound event
 * channel that named it) is told apart by its epoch.
 *
 * @spec xen:common/domctl.c XEN_DOMCTL_createdomain, xen:common/domain.c rcu_lock_domain_by_any_id
 */
import { DOMID_FIRST_RESERVED, DOMID_SELF } from '../abi/xen/xen.js';
import { XenError } from '../boundary/xen-error.js';
import type { Domain } from './domain.js';
import { IndexSet } from './index-set.js';

export class DomainTable {
  private readonly byDomid: (Domain | undefined)[] = [];
  private readonly used = new IndexSet(DOMID_FIRST_RESERVED, 'empty');
  private readonly free = new IndexSet(DOMID_FIRST_RESERVED, 'full');
  private readonly epochs = new Map<number, number>();
  /** Where the search for a free domid began last. */
  private rover = 0;

  /** Domains, those that are dead but still held included. */
  get count(): number {
    return this.used.count;
  }

  /** How many domains have had this domid and are gone. */
  epoch(domid: number): number {
    return this.epochs.get(domid) ?? 0;
  }

  find(domid: number): Domain | undefined {
    return this.byDomid[domid];
  }

  /** @throws XenError ESRCH */
  get(domid: number): Domain {
    const domain = this.byDomid[domid];
    if (!domain) throw new XenError('ESRCH', `no domain ${domid}`);
    return domain;
  }

  /** DOMID_SELF stands for the caller. @throws XenError ESRCH */
  getAny(domid: number, caller: Domain): Domain {
    return domid === DOMID_SELF ? caller : this.get(domid);
  }

  /** Any domain but the caller. @throws XenError ESRCH, EPERM */
  getRemote(domid: number, caller: Domain): Domain {
    const domain = this.get(domid);
    if (domain === caller) throw new XenError('EPERM', `domain ${domid} is the caller`);
    return domain;
  }

  /** The domain with the lowest domid from `domid` on. */
  next(domid: number): Domain | undefined {
    const found = this.used.lowestFrom(domid);
    return found < 0 ? undefined : this.byDomid[found];
  }

  *[Symbol.iterator](): Generator<Domain> {
    for (let domain = this.next(0); domain; domain = this.next(domain.domid + 1)) yield domain;
  }

  /**
   * The domid a new domain gets. The search goes on from the last domid given out, also where creation failed then.
   * @param wanted a certain domid, or 0 (or a reserved one) for the next free
   * @throws XenError EEXIST, ENOMEM
   */
  chooseDomid(wanted: number): number {
    if (wanted > 0 && wanted < DOMID_FIRST_RESERVED) {
      if (!this.free.has(wanted)) throw new XenError('EEXIST', `domain ${wanted} exists`);
      return wanted;
    }
    let domid = this.free.lowestFrom(this.rover + 1);
    if (domid < 0) domid = this.free.lowestFrom(1);
    if (domid < 0) throw new XenError('ENOMEM', 'no domid is free');
    this.rover = domid;
    return domid;
  }

  add(domain: Domain): void {
    this.free.delete(domain.domid);
    this.used.add(domain.domid);
    this.byDomid[domain.domid] = domain;
  }

  remove(domain: Domain): void {
    if (this.byDomid[domain.domid] !== domain) throw new Error(`domain ${domain.domid} is not in the table`);
    this.byDomid[domain.domid] = undefined;
    this.used.delete(domain.domid);
    this.free.add(domain.domid);
    this.epochs.set(domain.domid, this.epoch(domain.domid) + 1);
  }
}
