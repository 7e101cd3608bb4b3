-- Due steps for the scripts that read: the machinery that writes is made only when something is due, because building
-- its closures costs more than the check.
local function due_steps()
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"
--- @include "remove"
--- @include "price"
--- @include "due"
  return step_due
end

local function anything_due(now)
  for _, name in ipairs({ 'leases', 'reservations', 'overrides' }) do
    if #redis.call('ZRANGEBYSCORE', P .. name, '-inf', now, 'LIMIT', '0', '1') > 0 then return true end
  end
  return false
end
