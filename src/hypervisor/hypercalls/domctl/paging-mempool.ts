/**
 * XEN_DOMCTL_get_paging_mempool_size and XEN_DOMCTL_set_paging_mempool_size: memory for page tables, in bytes. Page
 * tables here are the host's own, so the size is kept and told, nothing more.
 * @spec xen:arch/x86/mm/paging.c arch_set_paging_mempool_size
 */

import { PAGE_SIZE } from '../../../abi/ids.js';
import { xen_domctl_paging_mempool } from '../../../abi/xen/domctl.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

const NOTE = 'the size is kept; no memory is set aside';

export const get_paging_mempool_size: Implemented<DomctlOperation> = {
  name: 'get_paging_mempool_size',
  status: 'partial',
  note: NOTE,
  run(_call, argument, domain) {
    requireHvm(domain);
    argument.write(xen_domctl_paging_mempool, { size: BigInt(domain.pagingPoolBytes) });
    argument.copyBack();
    return 0;
  },
};

export const set_paging_mempool_size: Implemented<DomctlOperation> = {
  name: 'set_paging_mempool_size',
  status: 'partial',
  note: NOTE,
  run(_call, argument, domain) {
    requireHvm(domain);
    const { size } = argument.read(xen_domctl_paging_mempool);
    if (size % BigInt(PAGE_SIZE) !== 0n || size / BigInt(PAGE_SIZE) > 0xffffffffn) {
      throw new XenError('EINVAL', `paging pool of ${size} bytes`);
    }
    domain.pagingPoolBytes = Number(size);
    return 0;
  },
};

function requireHvm(domain: Domain): void {
  if (domain.kind !== 'hvm') throw new XenError('EOPNOTSUPP', `domain ${domain.domid} has no paging pool`);
}
