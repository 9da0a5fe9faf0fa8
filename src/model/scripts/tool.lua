-- script/tool: a message "run: COMMAND" runs COMMAND with bash; the answer is its output, unchanged.
return function(request)
    local answer = aside(request)
    if answer then
        return answer
    end
    if #request.results > 0 then
        local out = {}
        for i, result in ipairs(request.results) do
            out[i] = (result.is_error and "error: " or "") .. result.content
        end
        return table.concat(out, "\n")
    end
    local command = request.text:match("run:%s*(.+)")
    if not command then
        return "I am a scripted model. Say \"run: COMMAND\" and I run it with bash and show its output."
    end
    return { tools = { { name = "bash", input = { command = command } } } }
end
