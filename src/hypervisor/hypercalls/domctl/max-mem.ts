/** XEN_DOMCTL_max_mem: may be below what the domain has, which stops further growth. @spec xen:common/domctl.c */
import { xen_domctl_max_mem } from '../../../abi/xen/domctl.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

const KIB_PER_PAGE = 4n;

export const max_mem: Implemented<DomctlOperation> = {
  name: 'max_mem',
  status: 'supported',
  run(_call, argument, domain) {
    domain.memory.maxPages = Number(argument.read(xen_domctl_max_mem).max_memkb / KIB_PER_PAGE);
    return 0;
  },
};
