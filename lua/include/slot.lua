-- Slots: which miner lives at one, and a new one for a newcomer.

-- Slots that were given back go first, so that the bitmaps stay short.
local function take_slot()
  local slot = redis.call('LPOP', P .. 'slots:free')
  return slot or text_of(redis.call('INCR', P .. 'slots:next') - 1)
end

local function lives_at(id, slot)
  return redis.call('HGET', P .. 'miner:' .. id, 'slot') == slot
end

-- The miner that lives at a slot, by its record; nil when nobody does.
local function holder_of(slot)
  local record = redis.call('HGET', P .. 'records', slot)
  if not record then return nil end
  local id = record_id(record)
  return lives_at(id, slot) and id or nil
end
