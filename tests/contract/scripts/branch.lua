--model: context=100000 max_output=2000 input=10 output=10
-- "three" calls bash three times at once, "lookup" the client's tool, "fill" reports a full context; anything
-- else, and what follows a result, is answered with the roles of the conversation.
return function(request)
    local content = request.last.content
    local block = type(content) == "table" and content[#content] or { type = "text", text = content }
    local usage = { input_tokens = 10000, output_tokens = 100 }
    if request.purpose == "compaction" then return { text = "summed up", usage = usage } end
    local roles = {}
    for i, message in ipairs(request.messages) do roles[i] = message.role:sub(1, 1) end
    local answer = { text = table.concat(roles), usage = usage }
    if block.type ~= "text" then return answer end
    local word = block.text:match("(%w+)%s*$")
    if word == "fill" then answer.usage = { input_tokens = 90000, output_tokens = 100 } end
    if word == "lookup" then return { tools = { { name = "lookup", input = { key = "k" } } }, usage = usage } end
    if word == "three" then
        local tools = {}
        for i = 1, 3 do tools[i] = { name = "bash", input = { command = "echo " .. i .. " >> log; wc -l < log" } } end
        return { text = "three at once", tools = tools, usage = usage }
    end
    return answer
end
