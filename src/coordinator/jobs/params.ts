import { AppError } from '../../platform/errors.ts';
import { pathParams } from '../../platform/validation.ts';
import { JobParams } from './schema.ts';

/** The job id of a path. What is no id is none of any job: 404, as for an id that is not known, not 422. */
export function jobParams() {
  return pathParams(JobParams, (result) => {
    if (!result.success) throw new AppError('not_found', 'no such job');
  });
}
