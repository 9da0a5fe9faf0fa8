-- Answers with what it was sent: every message with its blocks (of its own only their types), then the tools.
-- "call NAME" calls that tool first.
local function show(block)
    if block.type == "text" then return "text(" .. block.text .. ")" end
    if block.source then
        local s = block.source
        return block.type .. "(" .. table.concat({ s.type, s.media_type or "", s.data or s.url or s.file_id }, " ") .. ")" .. (block.title and ("=" .. tostring(block.title)) or "")
    end
    if block.type == "tool_result" then
        local inner = {}
        for i, b in ipairs(type(block.content) == "table" and block.content or {}) do inner[i] = show(b) end
        return "result(" .. table.concat(inner, " ") .. ")"
    end
    return block.type
end

return function(request)
    local name = request.text:match("call (%S+)%s*$")
    if name and #request.calls == 0 then return { tools = { { name = name, input = {} } } } end
    local lines = {}
    for i, message in ipairs(request.messages) do
        local blocks = {}
        if type(message.content) == "table" then
            for j, block in ipairs(message.content) do blocks[j] = message.role == "assistant" and block.type or show(block) end
        else
            blocks[1] = "text(" .. message.content .. ")"
        end
        lines[i] = message.role .. ": " .. table.concat(blocks, " ")
    end
    return table.concat(lines, "\n") .. "\ntools: " .. table.concat(request.tools, ",")
end
