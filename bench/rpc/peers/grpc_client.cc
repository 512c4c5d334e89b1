/*
 * grpc_client - echo calls through gRPC C++, closed loop
 *
 *   grpc_client --endpoint ADDRESS --mode unary|chat [--extra CERTIFICATE] [flags of measure.h]
 *
 * unary: so many calls in flight. chat: one stream with so many messages under way.
 */
#include "bench/rpc/measure.h"
#include "echo.grpc.pb.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <sstream>
#include <vector>

using dragoman::bench::v1::Echo;
using dragoman::bench::v1::Payload;

namespace
{

[[noreturn]] void die(const grpc::Status &status)
{
    fprintf(stderr, "echo: %d: %s\n", status.error_code(), status.error_message().c_str());
    exit(1);
}

uint8_t *bytes_of(Payload &payload)
{
    return reinterpret_cast<uint8_t *>(payload.mutable_data()->data());
}

/* A payload that is sent again and again with another number. */
struct Slot {
    explicit Slot(size_t size)
    {
        request.mutable_data()->resize(size);
        measure_fill(bytes_of(request), size);
    }
    void stamp()
    {
        static uint64_t last;

        number = ++last;
        measure_stamp(bytes_of(request), request.data().size(), number);
        begun_ns = measure_now_ns();
    }
    bool answered(const Payload &response, measure *measure, int64_t now_ns) const
    {
        measure_check(reinterpret_cast<const uint8_t *>(request.data().data()),
                      request.data().size(),
                      reinterpret_cast<const uint8_t *>(response.data().data()),
                      response.data().size(), number);
        return measure_call(measure, begun_ns, now_ns);
    }

    Payload request;
    uint64_t number = 0;
    int64_t begun_ns = 0;
};

struct UnaryCall {
    explicit UnaryCall(size_t size) : slot(size)
    {
    }
    void start(Echo::Stub *stub, grpc::CompletionQueue *queue)
    {
        slot.stamp();
        context = std::make_unique<grpc::ClientContext>();
        reader = stub->AsyncQuick(context.get(), slot.request, queue);
        reader->Finish(&response, &status, this);
    }

    Slot slot;
    Payload response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<Payload>> reader;
};

void run_unary(Echo::Stub *stub, const measure_plan &plan, measure *measure)
{
    grpc::CompletionQueue queue;
    std::vector<std::unique_ptr<UnaryCall>> calls;
    int running = plan.in_flight;
    void *tag;
    bool ok;

    for (int i = 0; i < plan.in_flight; i++) {
        calls.push_back(std::make_unique<UnaryCall>(plan.size));
        calls.back()->start(stub, &queue);
    }
    while (running > 0 && queue.Next(&tag, &ok)) {
        auto *call = static_cast<UnaryCall *>(tag);

        if (!call->status.ok())
            die(call->status);
        if (call->slot.answered(call->response, measure, measure_now_ns()))
            call->start(stub, &queue);
        else
            running--;
    }
}

/* What gRPC's synchronous stub does: the shortest way for one call in flight. */
void run_blocking(Echo::Stub *stub, const measure_plan &plan, measure *measure)
{
    Slot slot(plan.size);
    Payload response;
    bool more = true;

    while (more) {
        grpc::ClientContext context;

        slot.stamp();
        grpc::Status status = stub->Quick(&context, slot.request, &response);
        if (!status.ok())
            die(status);
        more = slot.answered(response, measure, measure_now_ns());
    }
}

/* One Read and one Write may be under way at a time. */
void run_chat(Echo::Stub *stub, const measure_plan &plan, measure *measure)
{
    enum : intptr_t { STARTED = 1, WRITTEN, READ };
    uint64_t n = (uint64_t)plan.in_flight, written = 0, read = 0;
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    std::vector<Slot> slots(n, Slot(plan.size));
    auto stream = stub->AsyncChat(&context, &queue, reinterpret_cast<void *>(STARTED));
    Payload response;
    bool writing = false, more = true, ok;
    void *tag;

    while (more && queue.Next(&tag, &ok)) {
        if (!ok)
            die(grpc::Status(grpc::StatusCode::UNKNOWN, "the stream is over"));
        if (reinterpret_cast<intptr_t>(tag) == WRITTEN)
            writing = false;
        if (reinterpret_cast<intptr_t>(tag) == READ)
            more = slots[read++ % n].answered(response, measure, measure_now_ns());
        if (reinterpret_cast<intptr_t>(tag) != WRITTEN)
            stream->Read(&response, reinterpret_cast<void *>(READ));
        if (!writing && written - read < n) {
            slots[written % n].stamp();
            stream->Write(slots[written++ % n].request, reinterpret_cast<void *>(WRITTEN));
            writing = true;
        }
    }
    context.TryCancel();
    queue.Shutdown();
    while (queue.Next(&tag, &ok))
        ;
}

std::shared_ptr<grpc::Channel> connect(const measure_plan &plan)
{
    grpc::ChannelArguments arguments;
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();

    if (plan.extra[0]) {
        std::ifstream file(plan.extra);
        std::stringstream text;

        text << file.rdbuf();
        credentials = grpc::SslCredentials({text.str(), "", ""});
        arguments.SetSslTargetNameOverride("localhost");
    }
    arguments.SetMaxReceiveMessageSize(64 << 20);
    return grpc::CreateCustomChannel(plan.endpoint, credentials, arguments);
}

} // namespace

int main(int argc, char **argv)
{
    measure_plan plan;

    measure_parse(argc, argv, &plan);
    auto channel = connect(plan);
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
        fprintf(stderr, "cannot connect to '%s'\n", plan.endpoint);
        return 1;
    }
    auto stub = Echo::NewStub(channel);
    measure *measure = measure_begin(&plan);

    if (strcmp(plan.mode, "chat") == 0)
        run_chat(stub.get(), plan, measure);
    else if (plan.in_flight == 1)
        run_blocking(stub.get(), plan, measure);
    else
        run_unary(stub.get(), plan, measure);
    measure_print(measure);
    return 0;
}
