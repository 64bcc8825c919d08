/** The one argument of RELEASE and RESUME: a domain that is being served, not the control domain. */
import type { XsErrorName } from '../../abi/xen/xs-wire.js';
import type { Domain } from '../domains.js';
import { atoi, type Request } from '../request.js';

export function servedDomain(request: Request): Domain | XsErrorName {
  const nul = request.oneString();
  const domid = nul < 0 ? 0 : atoi(request.text(request.start, nul));
  if (domid === 0) return 'EINVAL';
  return introducedDomain(request, domid);
}

export function introducedDomain(request: Request, domid: number): Domain | XsErrorName {
  const domain = request.server.domains.get(domid);
  return domain?.introduced ? domain : 'ENOENT';
}
