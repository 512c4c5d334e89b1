/*
 * grpc_server - the echo service of bench/rpc over gRPC C++, until it is killed
 *
 *   grpc_server ADDRESS [CERTIFICATE KEY]     "127.0.0.1:0" gets a port, "unix:/path"; prints the port
 *
 * Completion queue and one thread, the arrangement that was fastest on one core.
 */
#include "echo.grpc.pb.h"

#include <cstdio>
#include <fstream>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <sstream>

using dragoman::bench::v1::Echo;
using dragoman::bench::v1::Payload;

namespace
{

struct Event {
    virtual ~Event() = default;
    virtual void done(bool ok) = 0;
};

/* A unary call, from waiting for it to its end; then it waits for the next. */
class UnaryCall final : public Event
{
  public:
    UnaryCall(Echo::AsyncService *service, grpc::ServerCompletionQueue *queue)
        : service_(service), queue_(queue)
    {
        wait();
    }

    void done(bool ok) override
    {
        if (!ok && !answering_) { /* the server is going down */
            delete this;
            return;
        }
        answering_ = !answering_;
        if (answering_)
            writer_->Finish(request_, grpc::Status::OK, this);
        else
            wait();
    }

  private:
    void wait()
    {
        context_ = std::make_unique<grpc::ServerContext>();
        writer_ = std::make_unique<grpc::ServerAsyncResponseWriter<Payload>>(context_.get());
        service_->RequestQuick(context_.get(), &request_, writer_.get(), queue_, queue_, this);
    }

    Echo::AsyncService *service_;
    grpc::ServerCompletionQueue *queue_;
    std::unique_ptr<grpc::ServerContext> context_;
    std::unique_ptr<grpc::ServerAsyncResponseWriter<Payload>> writer_;
    Payload request_;
    bool answering_ = false;
};

/* A stream: read, write it back, read. */
class ChatCall final : public Event
{
  public:
    ChatCall(Echo::AsyncService *service, grpc::ServerCompletionQueue *queue)
        : service_(service), queue_(queue), stream_(&context_)
    {
        service_->RequestChat(&context_, &stream_, queue_, queue_, this);
    }

    void done(bool ok) override
    {
        switch (state_) {
        case Waiting:
            if (!ok)
                break;
            new ChatCall(service_, queue_);
            [[fallthrough]];
        case Writing:
            if (ok) {
                state_ = Reading;
                stream_.Read(&message_, this);
                return;
            }
            break;
        case Reading:
            if (ok) {
                state_ = Writing;
                stream_.Write(message_, this);
            } else {
                state_ = Finishing;
                stream_.Finish(grpc::Status::OK, this);
            }
            return;
        case Finishing:
            break;
        }
        delete this;
    }

  private:
    enum { Waiting, Reading, Writing, Finishing } state_ = Waiting;
    Echo::AsyncService *service_;
    grpc::ServerCompletionQueue *queue_;
    grpc::ServerContext context_;
    grpc::ServerAsyncReaderWriter<Payload, Payload> stream_;
    Payload message_;
};

std::string read_file(const char *path)
{
    std::ifstream file(path);
    std::stringstream text;

    text << file.rdbuf();
    return text.str();
}

std::shared_ptr<grpc::ServerCredentials> credentials(const char *certificate, const char *key)
{
    if (!certificate)
        return grpc::InsecureServerCredentials();
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back({read_file(key), read_file(certificate)});
    return grpc::SslServerCredentials(options);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: %s ADDRESS [CERTIFICATE KEY]\n", argv[0]);
        return 2;
    }
    Echo::AsyncService service;
    grpc::ServerBuilder builder;
    int port = 0;

    builder.AddListeningPort(
        argv[1], credentials(argc == 4 ? argv[2] : nullptr, argc == 4 ? argv[3] : nullptr), &port);
    builder.SetMaxReceiveMessageSize(64 << 20);
    builder.RegisterService(&service);
    auto queue = builder.AddCompletionQueue();
    auto server = builder.BuildAndStart();
    if (!server) {
        fprintf(stderr, "cannot listen on '%s'\n", argv[1]);
        return 1;
    }
    printf("%d\n", port);
    fflush(stdout);
    for (int i = 0; i < 128; i++)
        new UnaryCall(&service, queue.get());
    new ChatCall(&service, queue.get());

    void *tag;
    bool ok;
    while (queue->Next(&tag, &ok))
        static_cast<Event *>(tag)->done(ok);
    return 0;
}
