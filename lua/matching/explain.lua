--[[ Why a request matches as many miners as it does: counts of the pool, per clause how many available miners have it
and how many would match if that clause alone were dropped; for one miner, every clause it fails.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   request   as for match.lua
ARGV[3]   miner_id  '' or a miner of this shard

RETURNS {'ok', registered, online, degraded, available, matchable, feasible, {{clause, have, if dropped}...},
         {failed clause...} or false when the miner is unknown or not asked}
]]
--- @include "base"
--- @include "record"
--- @include "bins"

--- @include "lazy_due"
--- @include "bitmap"
--- @include "clauses"

local clock, request, miner_id = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local DUE_PER_CALL = 16

local now = clock_ms(clock)
if anything_due(now) then due_steps()(now, DUE_PER_CALL) end

local counts = redis.call('HMGET', TERMS, 'all', 'state:online', 'state:degraded', 'on')
for i = 1, 4 do counts[i] = tonumber(counts[i] or 0) end

-- Whether the miner of `slot` satisfies a clause; the record settles what a limit leaves loose.
local function satisfies(clause, slot, record)
  if clause.empty then return false end
  for _, key in ipairs(clause.need) do
    if redis.call('GETBIT', key, slot) == 0 then return false end
  end
  for _, key in ipairs(clause.ban) do
    if redis.call('GETBIT', key, slot) == 1 then return false end
  end
  if not clause.cut or redis.call('GETBIT', clause.cut.key, slot) == 0 then return true end
  local _, price, vram, ram, eta = struct.unpack('<ddddd', record)
  return record_passes({ [clause.name] = request[clause.name] }, price, vram, ram, eta)
end

local function failed_clauses(clauses)
  local values = redis.call('HMGET', P .. 'miner:' .. miner_id, 'slot', 'busy', 'draining', 'queue_len', 'reserved', 'max_parallel')
  local slot = values[1]
  if not slot then return false end
  local failed = {}
  if values[2] == '1' then failed[#failed + 1] = 'busy' end
  if values[3] ~= 'no' then failed[#failed + 1] = 'draining' end
  if tonumber(values[4] or 0) + tonumber(values[5] or 0) >= tonumber(values[6]) then failed[#failed + 1] = 'full' end
  local record = redis.call('HGET', P .. 'records', slot)
  for _, clause in ipairs(clauses) do
    if not satisfies(clause, slot, record) then failed[#failed + 1] = clause.name end
  end
  return failed
end

local available, feasible, rows, failed = 0, 0, {}, false
with_temporaries(function()
  local clauses = build_clauses(request)
  local pool, scratch = temporary(), temporary()
  redis.call('BITOP', 'OR', pool, P .. 'ix:on', P .. 'ix:degraded')
  available = redis.call('BITCOUNT', pool)
  feasible = feasible_set(scratch, pool, clauses, request)
  for i, clause in ipairs(clauses) do
    local have = feasible_set(scratch, pool, { clause }, request)
    local dropped = feasible_set(scratch, pool, clauses, request, i)
    rows[i] = { clause.name, have, dropped }
  end
  if miner_id ~= '' then failed = failed_clauses(clauses) end
end)
return { 'ok', counts[1], counts[2], counts[3], available, counts[4], feasible, rows, failed }
